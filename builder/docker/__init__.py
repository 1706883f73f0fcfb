"""The API of a Docker engine (docs.docker.com/reference/api/engine), which podman speaks as well, over a unix socket.

What it promises: every wait ends, answers are bounded, and what the engine says is shown as text only. What it does not: who
may write to the socket of an engine is root on its machine anyway.
"""
