FROM base
COPY --chmod=u+x, a /x
