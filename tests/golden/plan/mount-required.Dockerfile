FROM base
RUN --mount=required,type=secret,id=x make
