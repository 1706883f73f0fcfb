FROM base AS a
ONBUILD COPY --from=b / /
FROM a AS b
FROM b
