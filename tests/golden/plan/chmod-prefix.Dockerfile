FROM base
COPY --chmod=0o755 a /x
