FROM alpine
COPY --parents= a /c/
