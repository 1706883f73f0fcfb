FROM alpine
RUN <<EOF
make
 EOF
