FROM base
RUN --mount=type=cache,target=/c,mode=17777 make
