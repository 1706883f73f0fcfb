ARG SOURCE=build
FROM base AS build
FROM base
COPY --from=${SOURCE} /a /b
