FROM base
WORKDIR /it's
