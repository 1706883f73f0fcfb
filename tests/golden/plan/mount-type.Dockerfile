FROM base
RUN --network=none --mount=target=/c,type=cahce make
