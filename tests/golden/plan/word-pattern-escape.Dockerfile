FROM base
ENV A=x B=${A#\x}
