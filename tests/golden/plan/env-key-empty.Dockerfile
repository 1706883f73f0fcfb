FROM base
ENV A=1 $B=2
