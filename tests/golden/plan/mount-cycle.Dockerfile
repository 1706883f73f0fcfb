FROM base AS a
RUN --mount=from=b,target=/c make
FROM base AS b
COPY --from=a / /
