FROM alpine
RUN apk add curl &&
    adduser -D web
