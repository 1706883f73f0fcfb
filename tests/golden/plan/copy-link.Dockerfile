FROM base
ARG OWNER=app:app
COPY --link --chown=$OWNER a /x
