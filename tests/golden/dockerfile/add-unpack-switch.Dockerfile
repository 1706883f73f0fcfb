FROM alpine
ADD --unpack=no a.tar /c/
