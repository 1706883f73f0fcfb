FROM alpine
HEALTHCHECK --timeout=1us CMD true
