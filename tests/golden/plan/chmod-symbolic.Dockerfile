FROM base
ARG WHO=u
COPY --chmod=$WHO+q a /x
