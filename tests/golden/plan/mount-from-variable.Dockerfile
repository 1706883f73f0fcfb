ARG A=x
FROM base
RUN --mount=from=$A,target=/c make
