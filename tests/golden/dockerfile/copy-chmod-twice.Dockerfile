FROM alpine
COPY --chmod=u+x --chmod=644 a /c/
