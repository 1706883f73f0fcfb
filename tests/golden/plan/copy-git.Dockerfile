FROM base
COPY git@x.invalid:a /x
