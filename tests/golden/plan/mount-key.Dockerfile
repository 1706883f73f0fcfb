FROM base
RUN --mount=type=cache,targt=/c make
