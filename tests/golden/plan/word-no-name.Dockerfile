FROM base
LABEL price=${}5
