ARG A=1 B="x${A
FROM base
