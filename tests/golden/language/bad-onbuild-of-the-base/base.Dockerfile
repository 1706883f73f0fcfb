FROM busybox
ONBUILD RUN exit 3
