ARG PACKAGE
FROM node:20-alpine AS base
ENV PNPM_HOME="/pnpm"
ENV PATH="$PNPM_HOME:$PATH"
RUN test -n "$PNPM_HOME" && mkdir -p $PNPM_HOME

FROM base AS manifests
WORKDIR /repo
COPY package.json pnpm-workspace.yaml ./
COPY packages/api/package.json packages/api/
COPY packages/web/package.json packages/web/
COPY packages/shared/package.json packages/shared/

FROM manifests AS install
RUN pnpm install --frozen-lockfile

FROM install AS build
ARG PACKAGE
COPY packages packages
WORKDIR /repo/packages/${PACKAGE}
RUN pnpm --filter ${PACKAGE} build
RUN ls ../web > /web-files

FROM base AS final
ARG PACKAGE
LABEL package=$PACKAGE
WORKDIR /srv/$PACKAGE
COPY --from=build /repo/packages/${PACKAGE}/package.json .
COPY --from=build /repo/packages/${PACKAGE}/dist dist
COPY --from=build /repo/packages/shared ../shared
COPY --from=build /web-files ..
CMD ["node", "dist/bundle.js"]
