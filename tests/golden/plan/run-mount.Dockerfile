FROM base
RUN --network=none --mount=type=cache,target=/c make
