FROM base
COPY <<a/b /x/
x
a/b
