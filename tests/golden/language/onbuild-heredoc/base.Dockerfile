FROM busybox
ONBUILD RUN <<EOF
echo "hello world" >> /dest
EOF
ONBUILD COPY <<EOF /file
text
EOF
