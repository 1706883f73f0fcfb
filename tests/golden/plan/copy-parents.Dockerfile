FROM base
COPY --parents a /x
