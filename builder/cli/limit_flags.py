"""The flags that limit what commands use: those of builds and of `pybuild run`, by the names of docker and buildah."""

from __future__ import annotations

from builder.cli.flag import Flag

LIMITS = (
    Flag("ulimit", "", "list", "NAME=SOFT[:HARD]", "a limit of setrlimit(2) for commands, as nofile=1024:4096"),
    Flag("memory", "m", "bytes", "SIZE", "the most memory that a command may have, as 512m"),
    Flag("memory-swap", "", "string", "SIZE", "memory and swap together; -1 for all swap (default: twice the memory)"),
    Flag("cpus", "", "string", "N", "the most processors that a command may use, as 1.5"),
    Flag("cpu-quota", "", "string", "MICROSECONDS", "processor time of a command in each period"),
    Flag("cpu-period", "", "string", "MICROSECONDS", "the period of --cpu-quota (default: 100000)"),
    Flag("cpu-shares", "c", "string", "N", "the weight of a command's processor time (1024 without it)"),
    Flag("cpuset-cpus", "", "string", "LIST", "the processors that a command may use, as 0-3,5"),
    Flag("cpuset-mems", "", "string", "LIST", "the memory nodes that a command may use"),
    Flag("pids-limit", "", "string", "N", "the most processes and threads of a command; -1 for no limit"),
    Flag("cgroup-parent", "", "string", "PATH", "the cgroup in which those of commands are made, as build.slice"),
)
