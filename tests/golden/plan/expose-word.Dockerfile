FROM base
EXPOSE 80 \
  # why
  443/tcpp 90
