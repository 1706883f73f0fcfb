FROM alpine
COPY --chown=1 --link \
     --chown=2 /a /b
