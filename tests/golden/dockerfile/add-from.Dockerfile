FROM alpine
ADD --from=0 a /c/
