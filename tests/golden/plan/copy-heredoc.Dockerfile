FROM base
COPY a <<END /x/
x
END
