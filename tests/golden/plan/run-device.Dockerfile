FROM base
RUN --device=nvidia.com/gpu make
