FROM base
RUN --mount=type=secret,id=x,mode=0o400 make
