"""Runs one command in a sandbox of its own: namespaces, an overlay root, Docker's capabilities and seccomp profile.

Promises: what a command does stays in its upper folder, in the folders that a `BindMount` gives it read-write, and (under
`network="host"`) on the network. When the command, the builder or the fork server ends, however it ends, no process and
no mount of the sandbox is left.

Does not protect against: holes of the kernel itself; what the host's network offers to everybody; abstract unix sockets of
the host where the kernel has no Landlock scope (`Outcome.fallbacks` names it); use of memory, processor and disk (no limits
yet). There is no user namespace yet: root in the sandbox is root of the host, held by capabilities, seccomp and nodev.
The paths of a `SandboxSpec` on the host's side are trusted.

`spec` is the language, `launcher` what the builder calls. `main` is the fork server's program; with `serve`, `enter`,
`rootfs`, `mounts`, `oldmounts`, `privileges`, `features`, `kernel` and `wire` it needs nothing but `os` and `ctypes`.
"""
