FROM base AS one
COPY --from=two /b /a
FROM base AS two
COPY --from=one \
  /a /b
