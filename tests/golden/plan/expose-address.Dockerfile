FROM base
EXPOSE localhost:80:80
