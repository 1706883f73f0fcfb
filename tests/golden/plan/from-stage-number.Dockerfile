FROM base
COPY --chmod=1 --from=7 a b
