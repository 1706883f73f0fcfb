FROM base
ENV AB=c\
d${x:?e}f
