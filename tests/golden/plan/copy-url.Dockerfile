FROM base
COPY http://x.invalid/b /x
