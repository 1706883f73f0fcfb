FROM base
RUN --mount=target=/c,uid=5 make
