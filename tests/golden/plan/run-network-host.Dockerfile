FROM base
RUN --network=host \
    make
