FROM base
ARG VERSION
WORKDIR /app-${VERSION:?set it by --build-arg VERSION=...}/src
