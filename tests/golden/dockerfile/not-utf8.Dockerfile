FROM alpine
RUN ÿecho
