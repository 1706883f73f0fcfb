FROM base
COPY --from= /a /b
