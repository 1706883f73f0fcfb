FROM base
RUN --mount=type=cache,target=/c --mount=type=secret,id=a,target=/x/../c make
