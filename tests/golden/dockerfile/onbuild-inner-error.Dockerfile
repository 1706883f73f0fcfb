FROM alpine
ONBUILD COPY --form=x \
  a b
