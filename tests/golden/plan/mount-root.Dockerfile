FROM base
RUN --mount=type=tmpfs,dst=/x/.. make
