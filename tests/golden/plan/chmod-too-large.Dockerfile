FROM base
COPY --chmod=17777 a /x
