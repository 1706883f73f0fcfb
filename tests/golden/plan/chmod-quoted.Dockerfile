FROM base
ARG M=9
COPY --chmod="0$M" a /x
