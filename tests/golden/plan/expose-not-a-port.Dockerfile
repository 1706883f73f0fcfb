FROM base
EXPOSE 80 http
