FROM alpine
COPY --exclude *.md a /c/
