FROM base
VOLUME /a $V
