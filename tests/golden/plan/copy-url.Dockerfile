FROM base
COPY a http://x.invalid/b /x/
