FROM alpine
COPY --parents --parents a /c/
