FROM alpine
ENV A=hello world
