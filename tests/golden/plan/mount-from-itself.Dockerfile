FROM base AS a
RUN --mount=target=/c,from=A make
