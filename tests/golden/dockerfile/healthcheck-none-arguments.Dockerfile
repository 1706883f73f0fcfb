FROM alpine
HEALTHCHECK none true
