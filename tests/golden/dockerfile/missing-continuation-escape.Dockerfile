# escape=`
FROM alpine
RUN apk add curl &&
  make all
