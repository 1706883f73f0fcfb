FROM scratch
ENV B=old A=1
