FROM base
COPY --from=base --chown=a:${GROUP:?which} a /x
