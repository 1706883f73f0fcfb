"""Runs one command in a sandbox of its own: namespaces, an overlay root, Docker's capabilities and seccomp profile.

Promises: what a command does stays in its upper folder and those of its `OverlayMount`s, in the folders that a `BindMount`
gives it read-write, and (under `network="host"`) on the network. When the command, the builder or the fork server ends,
however it ends, no process and no mount of the sandbox is left.

Does not protect against: holes of the kernel itself; what the host's network offers to everybody; abstract unix sockets of
the host where the kernel has no Landlock scope (`Outcome.fallbacks` names it); use of the disk, and of memory and processor
where nobody limits them (`cgroups`). Root in the sandbox is root of the host where the builder is, held by capabilities,
seccomp and nodev; in a user namespace it is a subordinate id. The paths of a `SandboxSpec` on the host's side are trusted.

`spec` is the language, `launcher` what the builder calls, `probe` says what is wrong with a machine. `main` is the fork
server's program: `serve`, `child`, `enter`, `surroundings`, `rootfs`, `mounts`, `overlay`, `network`, `privileges`, `terminal`,
`features`, `kernel` and `wire` need nothing but `os`, `ctypes` and a few modules of the interpreter itself.

Without root the builder itself goes into a user namespace first (`namespace`, with the ids of `subids`), and all else is the
same. `ladder` finds out by trying which of the `rungs` work here, and `troubles` says what to change.

Where there are neither namespaces nor mounts, `chroot` runs commands in copies of their root (`copytree`), if it is asked to:
that keeps files apart, and promises nothing else of what stands above.

Where that namespace has a single id (`singleuid`), or no devices, a `supervisor` for each command answers what the kernel
would refuse (`emulation` says which calls): `answers`, `creation` and `attributes`, from `ownernotes` at the files and the
`identities` of processes (`tasks`). It promises that a layer's owners are what root would get, and not that users are kept
from each other.
"""
