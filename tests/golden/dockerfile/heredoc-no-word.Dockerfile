FROM alpine
COPY a <<EOF /etc/motd
hello
EOF
