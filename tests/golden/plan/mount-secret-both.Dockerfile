FROM base
RUN --mount=type=secret,id=x,source=y make
