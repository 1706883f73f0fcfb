FROM base
RUN --mount=target=/c,src=a\"b make
