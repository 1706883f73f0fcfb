FROM base
RUN --mount=type=secret,env=A make
