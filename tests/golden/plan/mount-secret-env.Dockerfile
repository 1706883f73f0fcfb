FROM base
RUN --mount=type=secret,id=x,env= make
