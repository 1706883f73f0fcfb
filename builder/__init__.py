"""pybuild: an OCI image builder without a daemon; `builder.build` tells its story in one page."""

__version__ = "0.1.0"
