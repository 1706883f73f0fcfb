# syntax=docker/dockerflie:1
FROM alpine
