FROM alpine
RUN ["a\u0000"]
