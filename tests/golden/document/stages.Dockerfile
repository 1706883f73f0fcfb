FROM base AS build
WORKDIR /src
RUN --network=none make
FROM base AS unused
FROM scratch
LABEL a=b
COPY --from=build --chown=1:2 --chmod=0644 /src/out* \
  /opt/
