FROM base AS build
COPY --from=build /a /b
