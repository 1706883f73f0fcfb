FROM base
VOLUME '/my data'
