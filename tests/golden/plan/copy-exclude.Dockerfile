FROM base
COPY --exclude=*.o \
  --exclude=[a-/x a /x
