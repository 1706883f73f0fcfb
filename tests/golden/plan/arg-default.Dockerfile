FROM base
ARG A B="${A:?needed for B}"
