FROM base
RUN --mount=type=tmpfs,target=/c,size=huge make
