FROM base
COPY --chown=1 \
  --link a /x
