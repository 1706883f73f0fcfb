FROM base
COPY --chmod=u+x,go a /x
