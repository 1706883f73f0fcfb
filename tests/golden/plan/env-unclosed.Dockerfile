FROM base
ENV A=1 \
    B="x${A}y
