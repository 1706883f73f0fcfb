FROM scratch
LABEL kept=base version=0.1
