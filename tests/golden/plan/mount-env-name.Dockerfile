FROM base
RUN --mount=type=secret,id=x,env=TOKEN=x make
