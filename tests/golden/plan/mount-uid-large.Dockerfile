FROM base
RUN --mount=type=cache,target=/c,uid=4294967295 make
