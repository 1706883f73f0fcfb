FROM base
COPY --exclude=*.o a /x
