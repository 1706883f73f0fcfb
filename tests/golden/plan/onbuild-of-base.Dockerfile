FROM onbuild AS child
RUN true
