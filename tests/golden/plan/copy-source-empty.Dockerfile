FROM base
COPY a \
  $NOTHING \
  # c
  b /x/
