FROM base
RUN --mount=type=cache,target make
