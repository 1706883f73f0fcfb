FROM alpine
RUN a \

  # c
  b
ENV	A
