FROM alpine
RUN --network=hots ping
