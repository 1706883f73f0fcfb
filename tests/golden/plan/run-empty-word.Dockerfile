FROM base
RUN ["", "x"]
