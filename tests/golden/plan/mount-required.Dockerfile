FROM base
RUN --mount=type=secret,id=x,required=yes make
