"""Every command and flag of pybuild, declared once (SPEC section 3): parsing, help and hints read this table.

Names are those of `docker buildx build` and `buildah build`. A flag is `works`, or `ignored` (means nothing to a builder
without a daemon: accepted and noted), or `unbuilt` (refused by name, except for values in `harmless`, which ask for nothing).
"""

from __future__ import annotations

from builder.cli.flag import Command, Flag, ignored, unbuilt
from builder.cli.limit_flags import LIMITS
from builder.cli.unlike_docker import UNLIKE_DOCKER

GLOBAL = (
    Flag("root", "", "string", "DIR", "the store (default: $PYBUILD_ROOT, else the user's own)"),
    Flag("debug", "D", "bool", "", "say more: what was decided and what was ignored"),
    Flag("help", "h", "bool", "", "show this help"),
)

ENTITLEMENTS = ("network.host", "security.insecure")
"""What a Dockerfile may ask for and a user has to grant, by BuildKit's names."""

_PULLS = ("always", "missing", "never", "newer", "true", "false")

_TLS_VERIFY = Flag(
    "tls-verify",
    "",
    "string",
    "BOOL",
    "false: take any certificate of a registry, and plain HTTP",
    "Inputs",
    choices=("true", "false"),
    implied="true",
)

_CERT_DIR = Flag("cert-dir", "", "string", "DIR", "certificates for registries: *.crt, *.cert with *.key", "Inputs")
_AUTHFILE = Flag("authfile", "", "string", "FILE", "credentials for registries (default: $REGISTRY_AUTH_FILE)", "Inputs")

_ISOLATION = Flag(
    "isolation", "", "string", "RUNG", "the sandbox: auto (default: $PYBUILD_ISOLATION), root, userns, single-uid or chroot"
)

_OWN_NETWORK = Flag(
    "require-isolated-network",
    "",
    "bool",
    "",
    "fail where the default network would be the host's, for want of slirp4netns or pasta",
)

_OFFLINE = Flag("offline", "", "bool", "", "fetch nothing: bases, URLs and git repositories come from the store alone")

_BUILD = (
    Flag("file", "f", "string", "PATH", "the Dockerfile (default: CONTEXT/Dockerfile, then Containerfile)", "Inputs"),
    Flag("build-arg", "", "pairs", "NAME[=VALUE]", "set an ARG; without a value it comes from the environment", "Inputs"),
    Flag("build-context", "", "list", "NAME=VALUE", "another context: a directory, URL, image or layout", "Inputs"),
    Flag(
        "pull",
        "",
        "string",
        "WHEN",
        "when images are pulled: missing (default), always, newer or never",
        "Inputs",
        choices=_PULLS,
        implied="always",
    ),
    Flag("pull-always", "", "bool", "", "the same as --pull=always", "Inputs"),
    Flag("pull-never", "", "bool", "", "the same as --pull=never", "Inputs"),
    _TLS_VERIFY,
    _CERT_DIR,
    _AUTHFILE,
    Flag("secret", "", "list", "SPEC", "a secret for RUN steps: id=ID,src=FILE or id=ID,env=NAME", "Inputs"),
    Flag("ssh", "", "list", "SPEC", "an ssh agent for RUN steps: default, ID=SOCKET or ID=KEYFILE", "Inputs"),
    Flag("target", "", "string", "STAGE", "the stage to build (default: the last)", "Inputs"),
    Flag("platform", "", "list", "OS/ARCH[,...]", "the platforms to build for (default: this machine's)", "Inputs"),
    Flag("tag", "t", "list", "NAME[:TAG]", "name the image", "Results"),
    Flag("label", "", "pairs", "NAME=VALUE", "add a label to the image", "Results"),
    Flag("output", "o", "list", "SPEC", "write an output: type=oci,dest=FILE; type=local,dest=DIR; a DIR", "Results"),
    Flag("push", "", "bool", "", "push the image to the registries that its names (-t) stand for", "Results"),
    Flag("load", "", "bool", "", "hand the image to the Docker engine of this machine, if there is one", "Results"),
    Flag("iidfile", "", "string", "FILE", "write the image id to a file", "Results"),
    Flag("metadata-file", "", "string", "FILE", "write what was built to a file, as JSON", "Results"),
    Flag("source-date-epoch", "", "int", "SECONDS", "the time that the image names (default: $SOURCE_DATE_EPOCH)", "Results"),
    Flag("check", "", "bool", "", "check the Dockerfile, build nothing", "No build"),
    Flag("call", "", "string", "METHOD", "check, outline or targets; with ,format=json as JSON", "No build"),
    Flag("print-plan", "", "bool", "", "print the steps that would be done, as JSON", "No build"),
    Flag("locked", "", "bool", "", "build what Dockerfile.lock names; what it lacks is an error", "Inputs"),
    _OFFLINE._replace(group="Inputs"),
    Flag("no-cache", "", "bool", "", "run every step anew", "Steps"),
    Flag("cache-from", "", "list", "SPEC", "take steps from another cache: NAME, or type=local,src=DIR", "Steps"),
    Flag(
        "cache-to",
        "",
        "list",
        "SPEC",
        "write the steps to another cache: type=registry,ref=NAME,mode=max, type=inline, type=local,dest=DIR",
        "Steps",
    ),
    Flag("no-cache-filter", "", "list", "STAGE[,STAGE]", "run every step of these stages anew", "Steps"),
    Flag(
        "jobs",
        "",
        "int",
        "N",
        "steps that run at once, and threads of compression (default, or 0: the processors, at least 4)",
        "Steps",
    ),
    Flag("allow", "", "list", "NAME", "allow RUN steps network.host or security.insecure", "Steps", choices=ENTITLEMENTS),
    Flag("add-host", "", "list", "NAME:IP", "add a line to /etc/hosts of RUN steps", "Steps"),
    Flag("network", "", "string", "MODE", "the network of RUN steps", "Steps", choices=("default", "host", "none")),
    _OWN_NETWORK._replace(group="Steps"),
    Flag("shm-size", "", "bytes", "SIZE", "the size of /dev/shm in RUN steps, as 64m", "Steps"),
    *(flag._replace(group="Steps") for flag in LIMITS),
    _ISOLATION._replace(group="Steps"),
    Flag(
        "progress",
        "",
        "string",
        "MODE",
        "how progress is shown (default: $BUILDKIT_PROGRESS, else auto)",
        "Display",
        choices=("auto", "tty", "plain", "json", "quiet"),
    ),
    Flag("quiet", "q", "bool", "", "show nothing but errors; print the image id", "Display"),
    Flag("explain", "", "bool", "", "say why each step ran that did not come from the cache", "Display"),
    unbuilt("annotation", "pairs", "NAME=VALUE", "add an annotation to the manifest"),
    unbuilt("attest", "list", "SPEC", "add an attestation", harmless=("false",)),
    unbuilt("build-arg-file", "list", "FILE", "read ARGs from a file"),
    unbuilt("cap-add", "list", "NAME", "give RUN steps a capability"),
    unbuilt("cap-drop", "list", "NAME", "take a capability from RUN steps"),
    unbuilt("compression", "string", "NAME", "how layers are compressed"),
    unbuilt("device", "list", "PATH", "give RUN steps a device"),
    unbuilt("env", "pairs", "NAME=VALUE", "add an ENV to the image"),
    unbuilt("format", "string", "NAME", "oci or docker manifests", harmless=("oci",)),
    unbuilt("ignorefile", "string", "FILE", "another .dockerignore"),
    unbuilt("logfile", "string", "FILE", "write the log to a file"),
    unbuilt("provenance", "string", "SPEC", "add a provenance attestation", harmless=("false",)),
    unbuilt("sbom", "string", "SPEC", "add an SBOM attestation", harmless=("false",)),
    unbuilt("squash", "bool", "", "put all new layers into one"),
    unbuilt("timestamp", "string", "TIME", "other times for the files of the layers"),
    unbuilt("arch", "string", "ARCH", "the architecture to build for (--platform has it)"),
    unbuilt("cache-ttl", "string", "TIME", "how old a result of the cache may be"),
    unbuilt("cgroupns", "string", "MODE", "the cgroup namespace of RUN steps", harmless=("private",)),
    unbuilt("creds", "string", "USER[:PASSWORD]", "credentials for registries (see login)"),
    unbuilt("decryption-key", "list", "KEY", "decrypt images"),
    unbuilt("dns", "list", "ADDRESS", "name servers of RUN steps"),
    unbuilt("dns-search", "list", "DOMAIN", "where RUN steps look for short names"),
    unbuilt("group-add", "list", "GROUP", "more groups for RUN steps"),
    unbuilt("inherit-labels", "string", "BOOL", "keep the labels of the base", harmless=("true",)),
    unbuilt("ipc", "string", "MODE", "the IPC namespace of RUN steps", harmless=("private",)),
    unbuilt("manifest", "string", "NAME", "add the image to an index"),
    unbuilt("no-hosts", "bool", "", "no /etc/hosts in RUN steps"),
    unbuilt("omit-history", "bool", "", "an image without its history", harmless=("false",)),
    unbuilt("os", "string", "OS", "the system to build for (--platform has it)", harmless=("linux",)),
    unbuilt("sign-by", "string", "KEY", "sign the image"),
    unbuilt("signature-policy", "string", "FILE", "which signatures images need"),
    unbuilt("stdin", "bool", "", "give RUN steps the standard input"),
    unbuilt("unsetenv", "list", "NAME", "take an ENV from the image"),
    unbuilt("unsetlabel", "list", "NAME", "take a LABEL from the image"),
    unbuilt("userns", "string", "MODE", "the user namespace of RUN steps (--isolation has it)", harmless=("auto", "private")),
    unbuilt("variant", "string", "VARIANT", "the variant of --arch"),
    unbuilt("volume", "list", "HOST:PATH", "mount a directory of the host in RUN steps", short="v"),
    ignored("builder", "string"),
    ignored("compress", "bool"),
    ignored("detach", "bool"),
    ignored("disable-compression", "bool"),
    ignored("disable-content-trust", "bool"),
    ignored("force-rm", "bool"),
    ignored("layers", "bool"),
    ignored("rm", "bool"),
    ignored("runtime", "string"),
    ignored("security-opt", "list"),
    ignored("server-config", "string"),
    ignored("stream", "bool"),
    *(ignored(name, "string") for name in ("log-level", "retry", "retry-delay", "storage-driver")),
    *(ignored(name, "list") for name in ("hooks-dir", "runtime-flag", "storage-opt")),
    *(ignored(name, "bool") for name in ("http-proxy", "identity-label", "skip-unused-stages")),
)

_QUIET = Flag("quiet", "q", "bool", "", "show image ids alone")
_NO_TRUNC = Flag("no-trunc", "", "bool", "", "do not shorten what is shown")
_FORMAT = Flag("format", "", "string", "TEMPLATE", "what is shown: a Go template, a table of one (table ...), or json")

_IMAGES = (
    Flag("all", "a", "bool", "", "show all; no image is hidden here"),
    Flag("digests", "", "bool", "", "show digests, of images that were pulled by them"),
    Flag("filter", "f", "list", "NAME=VALUE", "only what fits: reference=, dangling=, label=, before=, since="),
    _QUIET,
    _NO_TRUNC,
    _FORMAT,
)

_INSPECT = (
    _FORMAT._replace(short="f", help="what is shown: a Go template, or json"),
    Flag("remote", "", "bool", "", "ask the registry, and pull nothing"),
    Flag("raw", "", "bool", "", "show the manifest, or the index, as it is"),
    Flag("config", "", "bool", "", "show the image's config as it is"),
    Flag("platform", "", "string", "OS/ARCH", "which image of several platforms (default: this machine's)"),
    Flag("type", "", "string", "NAME", "what is inspected: there are only images", choices=("image",)),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
    ignored("size", "bool", short="s"),
)

_HISTORY = (
    _QUIET,
    _NO_TRUNC,
    _FORMAT,
    Flag("human", "H", "bool", "", "show sizes and times for people (default: true)"),
)

_PULL = (
    Flag("platform", "", "list", "OS/ARCH[,...]", "the platforms (default: this machine's)"),
    Flag("all-platforms", "", "bool", "", "all that the image is there for, and its index as it is"),
    Flag("quiet", "q", "bool", "", "show nothing but errors; print image ids alone"),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
    unbuilt("all-tags", "bool", "", "pull every tag of a repository", short="a"),
    ignored("disable-content-trust", "bool"),
)

_FORMS = ("gzip", "zstd", "uncompressed")

_PUSH = (
    Flag("platform", "", "string", "OS/ARCH", "which image of several platforms (default: all)"),
    Flag("quiet", "q", "bool", "", "show nothing but errors; print the manifest's digest alone"),
    Flag("compression", "", "string", "NAME", "how layers that were built here are compressed", choices=_FORMS),
    Flag("request", "", "bool", "", "push what the image says of its build, too, for verify --context; build args are in it"),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
    unbuilt("all-tags", "bool", "", "push every tag of a repository", short="a"),
    ignored("disable-content-trust", "bool"),
)

_SAVE = (
    Flag("output", "o", "string", "FILE", "the archive, or the folder (default: standard output)"),
    Flag(
        "format",
        "",
        "string",
        "NAME",
        "docker-archive (default), oci-archive, oci-dir or docker-dir",
        choices=("docker-archive", "oci-archive", "oci-dir", "docker-dir"),
    ),
    Flag("compression", "", "string", "NAME", "how layers that were built here are compressed", choices=_FORMS),
    Flag("platform", "", "string", "OS/ARCH", "which image of several platforms (default: all in OCI's formats)"),
    ignored("quiet", "bool", short="q"),
    ignored("multi-image-archive", "bool", short="m"),
)

_LOAD = (
    Flag("input", "i", "string", "FILE", "the archive, or a folder with an image (default: standard input)"),
    Flag("platform", "", "list", "OS/ARCH[,...]", "which images of several platforms (default: this machine's)"),
    Flag("quiet", "q", "bool", "", "show nothing of the progress"),
)

_INDEX = (
    Flag("tag", "t", "list", "NAME:TAG", "where the index goes"),
    Flag("append", "", "bool", "", "add to the index that is there, in place of its images for the same platforms"),
    Flag("annotation", "", "pairs", "NAME=VALUE", "add an annotation to the index"),
    Flag("dry-run", "", "bool", "", "put nothing anywhere; show the index"),
    Flag("quiet", "q", "bool", "", "show nothing but errors; print the digest alone"),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
    unbuilt("file", "list", "FILE", "read descriptors from a file", short="f"),
    unbuilt("prefer-index", "bool", "", "an index, also of one image", harmless=("true",)),
    ignored("builder", "string"),
    ignored("progress", "string"),
)

_LOGIN = (
    Flag("username", "u", "string", "USER", "the user"),
    Flag("password", "p", "string", "PASSWORD", "the password; others may see it in the list of processes"),
    Flag("password-stdin", "", "bool", "", "read the password from standard input"),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
)

_CHECK = (
    *(flag for flag in _BUILD if flag.name in ("file", "build-arg", "build-context", "target", "platform")),
    Flag("format", "", "string", "NAME", "how the result is shown", "Display", choices=("text", "json", "github")),
)

_LOCK = (
    *(
        flag
        for flag in _BUILD
        if flag.name
        in ("file", "build-arg", "build-context", "target", "platform", "tls-verify", "cert-dir", "authfile", "ssh", "offline")
    ),
    Flag(
        "upgrade",
        "",
        "list",
        "NAME",
        "pin again what NAME stands for now; without it, all names",
        "Inputs",
        implied="*",
    ),
    Flag("check", "", "bool", "", "write nothing; fail where the lock would change", "No build"),
    Flag("quiet", "q", "bool", "", "show nothing of what is fetched", "Display"),
)

_RUN = (
    Flag("pull", "", "string", "WHEN", "when the image is pulled (default: missing)", choices=_PULLS, implied="always"),
    Flag("platform", "", "string", "OS/ARCH", "the platform of the image (default: this machine's)"),
    Flag("quiet", "q", "bool", "", "show nothing of a pull"),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
    Flag("network", "", "string", "MODE", "the network", choices=("default", "host", "none")),
    _OWN_NETWORK,
    Flag("interactive", "i", "bool", "", "hand stdin on to the command"),
    Flag("tty", "t", "bool", "", "give the command a terminal, and what is typed"),
    Flag("env", "e", "pairs", "NAME[=VALUE]", "set a variable; without a value it comes from the environment"),
    Flag("env-file", "", "list", "FILE", "set the variables of a file, NAME=VALUE a line"),
    Flag("entrypoint", "", "string", "PROGRAM", "replace the image's ENTRYPOINT and CMD; empty for none"),
    Flag("user", "u", "string", "USER[:GROUP]", "run as another user of the image"),
    Flag("group-add", "", "list", "GROUP", "give the user one more group"),
    Flag("cap-add", "", "list", "NAME", "give the command a capability, or ALL"),
    Flag("cap-drop", "", "list", "NAME", "take a capability from the command, or ALL"),
    Flag("security-opt", "", "list", "OPTION", "no-new-privileges, seccomp=unconfined or systempaths=unconfined"),
    Flag("init", "", "bool", "", "put a process before the command that reaps and hands on signals"),
    Flag("workdir", "w", "string", "DIR", "run in another folder of the image"),
    Flag("volume", "v", "list", "HOST:PATH[:ro]", "mount a folder or file of the host"),
    Flag("tmpfs", "", "list", "PATH[:size=SIZE]", "mount an empty folder in memory"),
    Flag("mount", "", "list", "SPEC", "the same as a list: type=bind,source=DIR,target=PATH,readonly; type=tmpfs,target=PATH"),
    Flag("read-only", "", "bool", "", "let nothing be written but in mounts"),
    Flag("hostname", "", "string", "NAME", "the host name (default: the first digits of the image's id)"),
    Flag("add-host", "", "list", "NAME:IP", "add a line to /etc/hosts"),
    *LIMITS,
    Flag("shm-size", "", "bytes", "SIZE", "the size of /dev/shm, as 64m (the default)"),
    _ISOLATION,
    *UNLIKE_DOCKER,
)


_AS_JSON = Flag("format", "", "string", "NAME", "how the result is shown", choices=("text", "json"))
_FILTER = Flag("filter", "", "list", "NAME=VALUE", "only what fits: until=24h, unused-for=24h, type=KIND, id=ID")

_DU = (
    Flag("verbose", "", "bool", "", "show each thing, not the kinds alone"),
    _FILTER,
    _AS_JSON,
    ignored("builder", "string"),
)

_PRUNE = (
    Flag("all", "a", "bool", "", "forget images without a name, too"),
    Flag("cache-mounts", "", "bool", "", "remove cache mounts, too"),
    _FILTER,
    Flag("keep-storage", "", "bytes", "BYTES", "the cache that stays; what was used last stays longest"),
    Flag("reserved-space", "", "bytes", "BYTES", "the same, as buildx calls it now"),
    Flag("max-used-space", "", "bytes", "BYTES", "remove until the cache is no larger"),
    Flag("min-free-space", "", "bytes", "BYTES", "remove until so much of the disk is free"),
    Flag("dry-run", "", "bool", "", "remove nothing; show what would go"),
    Flag("force", "f", "bool", "", "do not ask"),
    Flag("verbose", "", "bool", "", "show each thing that goes"),
    _AS_JSON,
    ignored("builder", "string"),
)

_DIFFOSCOPE = Flag("diffoscope", "", "bool", "", "ask diffoscope about files that nothing here explains")

_DIFF = (
    Flag("platform", "", "string", "OS/ARCH", "which image of an index (default: this machine's)"),
    Flag(
        "require",
        "",
        "string",
        "WHAT",
        "what must be equal for exit code 0: identical (default: the manifest), diff-ids, semantic",
        choices=("identical", "manifest", "diff-ids", "semantic"),
    ),
    Flag("semantic", "", "bool", "", "the same as --require=semantic: files and config, however they are packed"),
    Flag("ignore", "", "list", "WHAT", "what does not count: mtime, owner, config.FIELD, history, /PATH/GLOB, a known cause"),
    Flag("no-content", "", "bool", "", "do not look into files that differ"),
    Flag("limit", "", "int", "N", "files that are shown at most (default: 50)"),
    _DIFFOSCOPE,
    _AS_JSON._replace(choices=("text", "json", "github")),
    _TLS_VERIFY._replace(group="Other"),
    _CERT_DIR._replace(group="Other"),
    _AUTHFILE._replace(group="Other"),
)

_NO_RESULTS = frozenset(
    (
        "annotation",
        "attest",
        "cache-to",
        "call",
        "check",
        "explain",
        "format",
        "iidfile",
        "load",
        "logfile",
        "metadata-file",
        "output",
        "print-plan",
        "progress",
        "provenance",
        "push",
        "sbom",
        "tag",
    )
)
"""Flags of a build that say what becomes of it."""
_RESULTS = _NO_RESULTS - {"call", "check", "explain", "format", "print-plan"}
"""Those that `verify` takes and that mean nothing there."""

_VERIFY = (
    Flag(
        "vary",
        "",
        "list",
        "WHAT",
        "what is other the second time: clock, mtimes, order, cpus, pids, aslr, rung, surroundings; all, none, -NAME",
        "Verify",
    ),
    Flag("runs", "", "int", "N", "how often each RUN is repeated, for what differs rarely (default: 1)", "Verify"),
    Flag(
        "keep-cache-mounts", "", "bool", "", "let cache mounts be as the build left them (default: they begin anew)", "Verify"
    ),
    Flag(
        "context", "", "string", "DIR", "say whether this context gives the IMAGE that is named in place of CONTEXT", "Verify"
    ),
    Flag(
        "require",
        "",
        "string",
        "WHAT",
        "what is asked for exit code 0: identical (default; the manifest), diff-ids or semantic",
        "Verify",
        choices=("identical", "diff-ids", "semantic"),
    ),
    Flag("ignore", "", "list", "WHAT", "what does not count for semantic: mtime, owner, /PATH/GLOB, a known cause", "Verify"),
    Flag("no-content", "", "bool", "", "do not look into files that differ", "Verify"),
    Flag("limit", "", "int", "N", "files that are shown of a step at most (default: 20)", "Verify"),
    _DIFFOSCOPE._replace(group="Verify"),
    Flag("format", "", "string", "NAME", "how the result is shown", "Verify", choices=("text", "json", "github")),
    *(flag for flag in _BUILD if flag.name not in _NO_RESULTS),
    # A pipeline has the flags of its build in one place.
    *(ignored(flag.name, flag.kind, short=flag.short) for flag in _BUILD if flag.name in _RESULTS),
)

_DOCTOR = (
    _ISOLATION,
    Flag("store", "", "bool", "", "compare all that the store holds with its digests"),
    _AS_JSON,
)


def _command(
    name: str, usage: str, help: str, flags: tuple[Flag, ...] = (), least: int = 0, most: int = 0, *, stops: bool = False
) -> Command:
    return Command(name, usage, help, flags + GLOBAL, least, most, stops=stops)


_ALL = (
    _command("build", "[flags] CONTEXT", "Build an image from a Dockerfile", _BUILD, 1, 1),
    _command("check", "[flags] CONTEXT", "Check a Dockerfile without building it", _CHECK, 1, 1),
    _command("run", "[flags] IMAGE [COMMAND...]", "Run a command in an image", _RUN, 1, -1, stops=True),
    _command("images", "[flags] [NAME[:TAG]]", "List the images of the store", _IMAGES, 0, 1),
    _command("index", "create -t NAME:TAG IMAGE...", "Join images of registries into one for several platforms", _INDEX, 1, -1),
    _command("inspect", "[flags] IMAGE...", "Show all about images, as JSON", _INSPECT, 1, -1),
    _command("history", "[flags] IMAGE", "Show how an image was made", _HISTORY, 1, 1),
    _command("lock", "[flags] CONTEXT", "Pin what the names in a Dockerfile stand for", _LOCK, 1, 1),
    _command("login", "[flags] [REGISTRY]", "Log in to a registry: Docker Hub where none is named", _LOGIN, 0, 1),
    _command("logout", "[REGISTRY]", "Forget the login to a registry", (_AUTHFILE._replace(group="Other"),), 0, 1),
    _command("pull", "[flags] IMAGE...", "Fetch images from registries", _PULL, 1, -1),
    _command("push", "[flags] IMAGE [NAME[:TAG]]", "Take an image to a registry", _PUSH, 1, 2),
    _command("save", "[flags] IMAGE...", "Write images to an archive", _SAVE, 1, -1),
    _command("load", "[flags]", "Bring the images of an archive into the store", _LOAD),
    _command("tag", "IMAGE NAME[:TAG]", "Give an image another name", (), 2, 2),
    _command(
        "rmi",
        "[flags] IMAGE...",
        "Remove names of images, and images without a name",
        (
            Flag("force", "f", "bool", "", "remove an image with several names, too; one that is not there is no error"),
            ignored("no-prune", "bool"),
        ),
        1,
        -1,
    ),
    _command(
        "import",
        "[flags] SOURCE [NAME[:TAG]]",
        "Make an image of a root file system: a tar archive or a directory",
        (
            Flag("platform", "", "string", "OS/ARCH", "the platform of the files (default: this machine's)"),
            unbuilt("change", "list", "INSTRUCTION", "set the image's config by instructions", short="c"),
            unbuilt("message", "string", "TEXT", "the comment in the history", short="m"),
        ),
        1,
        2,
    ),
    _command("du", "[flags]", "Show what takes space in the store", _DU),
    _command("prune", "[flags]", "Free space in the store: remove what no image and no build needs", _PRUNE),
    _command("doctor", "[flags]", "Say what this machine allows; check the store", _DOCTOR),
    _command(
        "why",
        "[flags] [STEP]",
        "Say why the steps of the last build ran, or came from the cache",
        (
            Flag("file", "f", "string", "PATH", "the last build of this Dockerfile (default: of the store)"),
            Flag("format", "", "string", "NAME", "how it is told", choices=("text", "json")),
        ),
        0,
        1,
    ),
    _command(
        "shell",
        "[flags] STEP[:before|after|failed] [-- COMMAND...]",
        "Open a shell in the file system of a step of the last build",
        (
            Flag("file", "f", "string", "PATH", "the last build of this Dockerfile (default: of the store)"),
            Flag("shell", "", "string", "PROGRAM", "what is run without a COMMAND (default: /bin/sh)"),
            Flag("network", "", "string", "MODE", "the network (default: the step's)", choices=("default", "host", "none")),
            _ISOLATION,
        ),
        1,
        -1,
    ),
    _command("diff", "[flags] IMAGE IMAGE", "Compare two images, and explain what differs", _DIFF, 2, 2),
    _command(
        "verify",
        "[flags] CONTEXT, or --context CONTEXT [flags] IMAGE",
        "Repeat the steps of a build, and say what does not come out the same",
        _VERIFY,
        1,
        1,
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _ALL}
