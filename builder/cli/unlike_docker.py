"""Flags of `docker run` that ask for what is not here: most of them are for containers that a daemon keeps."""

from __future__ import annotations

from builder.cli.flag import ignored, unbuilt

UNLIKE_DOCKER = (
    unbuilt("detach", "bool", "", "run in the background", short="d"),
    unbuilt("publish", "list", "HOST:PORT", "publish a port: with --network=host all are open", short="p"),
    unbuilt("publish-all", "bool", "", "publish all ports: with --network=host they are open", short="P"),
    unbuilt("name", "string", "NAME", "name the container"),
    unbuilt("restart", "string", "POLICY", "start it again", harmless=("no",)),
    unbuilt("privileged", "bool", "", "all rights and devices: --cap-add and --security-opt give rights", harmless=("false",)),
    unbuilt("device", "list", "PATH", "give it a device"),
    unbuilt("gpus", "string", "SPEC", "give it GPUs"),
    unbuilt("dns", "list", "IP", "other name servers"),
    unbuilt("ipc", "string", "MODE", "another IPC namespace", harmless=("", "private")),
    unbuilt("pid", "string", "MODE", "another pid namespace", harmless=("", "private")),
    unbuilt("uts", "string", "MODE", "another UTS namespace", harmless=("", "private")),
    unbuilt("userns", "string", "MODE", "another user namespace: --isolation chooses"),
    unbuilt("sysctl", "pairs", "NAME=VALUE", "set a sysctl"),
    unbuilt("link", "list", "NAME", "reach another container"),
    unbuilt("volumes-from", "list", "NAME", "mount another container's volumes"),
    unbuilt("cidfile", "string", "FILE", "write the container's id to a file"),
    unbuilt("attach", "list", "STREAM", "choose the streams: -i hands stdin on, the others always are", short="a"),
    ignored("rm", "bool"),
    ignored("label", "list", short="l"),
    ignored("label-file", "list"),
    ignored("annotation", "list"),
    ignored("expose", "list"),
    ignored("log-driver", "string"),
    ignored("log-opt", "list"),
    ignored("no-healthcheck", "bool"),
    ignored("sig-proxy", "bool"),
    ignored("stop-signal", "string"),
    ignored("stop-timeout", "string"),
)
