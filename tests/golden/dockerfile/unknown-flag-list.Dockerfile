FROM alpine
FROM --checksum=sha256:0 alpine
