FROM scratch
ONBUILD COPY --from=otherstage /testfile /out/foo
ONBUILD COPY --from=busybox /etc/passwd /out/passwd
