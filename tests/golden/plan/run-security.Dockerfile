FROM base
RUN --security=insecure make
