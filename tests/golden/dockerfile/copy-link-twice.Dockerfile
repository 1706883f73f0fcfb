FROM alpine
COPY --link=false --parents --link a /c/
