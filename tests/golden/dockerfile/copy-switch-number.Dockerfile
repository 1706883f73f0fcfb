FROM alpine
COPY --link=1 a /c/
