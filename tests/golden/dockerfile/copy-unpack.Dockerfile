FROM alpine
COPY --unpack a.tar /c/
