"""`pybuild build`: from flags to a request, from events to a person."""

from __future__ import annotations

import os
import stat
import sys
import time

from builder.build import build
from builder.cli.context_spec import parse_hosts, parse_platforms
from builder.cli.contexts import contexts
from builder.cli.environment import build_args
from builder.cli.faults import discard, told
from builder.cli.flags import near_command
from builder.cli.limit_flags import LIMITS
from builder.cli.lookup import new_name, when
from builder.cli.upkeep import keep_house
from builder.context.access import Access
from builder.engine.provided import AgentSocket, Provided
from builder.errors import BuildError, Interrupted, StoreError, UsageError
from builder.events import BuildFailed, Debug
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.plan.running import INLINE_CACHE_ARG
from builder.report.reporter import open_reporter, screen
from builder.request import Request
from builder.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.build import Image
    from builder.cache.places import CacheFrom, CacheTo
    from builder.cli.environment import Environment
    from builder.cli.flags import Parsed
    from builder.cli.output_spec import OutputSpec
    from builder.engine.exporting import Output
    from builder.events import Emit
    from builder.layers.forms import Form
    from builder.registry.access import RegistryAccess
    from builder.sandbox.resources import Limits

_NOTHING = Provided()
FEWEST_JOBS = 4
"""Steps that may run at once where nobody says how many: on a small machine, too, since many of them wait for the network."""


def command(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> int:
    """Build. stdout carries the image id with -q, or an output with `dest=-`; all else goes to stderr."""
    if parsed.flag("check") or parsed.text("call"):
        from builder.cli import check
        from builder.cli.evaluate import parse_call

        call = parse_call(parsed.text("call") or "check")
        if parsed.flag("check") and call.method != "check":
            raise UsageError("--check and --call exclude each other", hint="leave one of them out")
        if call.method == "check":
            return check.command(parsed, environment, environ, as_json=call.json)
    is_tty = os.isatty(2)
    reporter = open_reporter(
        environment.progress_mode(parsed.text("progress"), quiet=parsed.flag("quiet")),
        2,
        color=environment.color(is_tty=is_tty),
        is_tty=is_tty,
        width=lambda: screen(2)[0],
        debug=parsed.flag("debug"),
        explain=parsed.flag("explain"),
    )
    code = 1
    try:
        code = _build(parsed, environment, environ, reporter.emit)
    finally:
        try:
            reporter.close()
        except OSError:
            # Nobody takes our stderr, so nobody can be told there; that not all was said shows in the code.
            discard(2)
            code = code or 1
    return code


def _build(parsed: Parsed, environment: Environment, environ: Mapping[str, str], emit: Emit) -> int:
    """The exit code; what goes wrong is an event."""
    begun = time.monotonic()
    for note in parsed.notes:
        emit(Debug(note))
    root = ""
    try:
        request = request_of(parsed, environment, environ)
        _check_files(parsed)
        root = environment.store_root(parsed.text("root"), os.geteuid())
        if parsed.text("call") or parsed.flag("print-plan"):
            asked = _evaluated(parsed, request, root, emit)
            if asked is not None:
                _deliver(asked)
                return 0
        with Store(root) as store:
            image = _built(request, store, emit)
        _write_files(parsed, image)
        if parsed.flag("quiet"):
            if any(output.dest == "-" for output in request.outputs):
                # The archive is what there is on standard output.
                sys.stderr.write(f"{image.id}\n")
            else:
                _deliver(f"{image.id}\n")
    except (BuildError, OSError, KeyboardInterrupt) as error:
        failure = told(error, root)
        if failure.hint:
            from builder.cli.again import again  # for builds that fail

            failure.hint = again(failure.hint, parsed)
        emit(BuildFailed(failure, time.monotonic() - begun))
        return failure.exit_code
    return 0


def _built(request: Request, store: Store, emit: Emit) -> Image:
    try:
        image = build(request, store, emit)
    except BuildError as error:
        # What a failed build used and left counts, too. A damaged store has said so, and who interrupts does not want to wait.
        if not isinstance(error, (StoreError, Interrupted)):
            keep_house(store, emit)
        raise
    keep_house(store, emit)
    return image


def _evaluated(parsed: Parsed, request: Request, root: str, emit: Emit) -> str | None:
    """What stdout gets instead of a build; None when a build is asked for after all."""
    from builder.cli.evaluate import evaluate, parse_call, plan_json

    call = parse_call(parsed.text("call") or "build")
    if not parsed.flag("print-plan"):
        if call.method == "build":
            return None
        if not request.fetches:
            return evaluate(call, request, None, emit)
        with Store(root) as store:
            return evaluate(call, request, store, emit)
    if call.method != "build":
        raise UsageError("--print-plan and --call exclude each other", hint="leave one of them out")
    with Store(root) as store:
        return plan_json(request, store, emit)


def _deliver(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def request_of(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Request:
    """What the flags of a build ask for. Raises UsageError."""
    given = contexts(parsed)
    if "" not in given.remotes and not os.path.lexists(given.context) and (near := near_command(given.context)):
        raise UsageError(f"the build context '{given.context}' does not exist", hint=near)
    args = build_args(parsed.pairs("build-arg"), environ)
    epoch = _epoch(parsed, environment, args)
    if epoch is not None:
        # buildx hands the environment's on as a build arg, which a Dockerfile may declare.
        args.setdefault("SOURCE_DATE_EPOCH", str(epoch))
    args = {**dict(environment.proxies), **args}
    tags = tuple(new_name(text) for text in parsed.texts("tag"))
    outputs = _outputs(parsed.texts("output"), tags, environment)
    if parsed.flag("push"):
        # As with buildx: it stands for an output, beside others.
        outputs = tuple(dict.fromkeys([*outputs, _pushed("--push", "gzip", tags)]))
    if parsed.flag("load"):
        outputs = tuple(dict.fromkeys([*outputs, _loaded(tags, environment)]))
    # The store's own output names the image as --tag does.
    tags = tuple(dict.fromkeys([*tags, *(name for output in outputs if output.type == "image" for name in output.names)]))
    network = parsed.text("network") or "default"
    offline = parsed.flag("offline")
    if offline:
        _check_offline(parsed, outputs)
    provided = _provided(parsed, environment, environ)
    wanted = parse_platforms(platforms(parsed, environment), os.uname().machine)
    if len(wanted) > 1:
        _check_several(wanted, outputs)
        if any(output.with_request for output in outputs):
            raise UsageError("what an image says of its build is of one platform", hint="leave 'request' out, or choose one")
    return Request(
        **given._asdict(),
        tags=tags,
        outputs=outputs,
        target=parsed.text("target") or "",
        build_args=args,
        labels=tuple(sorted((name, value or "") for name, value in parsed.pairs("label").items())),
        platform=wanted[0],
        others=wanted[1:],
        machine=Platform.of_machine(os.uname().machine),
        no_cache=parsed.flag("no-cache"),
        cache_from=_cache_from(parsed),
        cache_to=_cache_to(parsed, args, outputs),
        uncached=tuple(name for text in parsed.texts("no-cache-filter") for name in text.split(",") if name),
        source_date_epoch=epoch,
        network=network,  # type: ignore[arg-type]  # the table has the choices
        # Who gives all steps the host's network has allowed it.
        allow=frozenset((*parsed.texts("allow"), *(["network.host"] if network == "host" else []))),
        hosts=parse_hosts(parsed.texts("add-host")),
        shm_size=parsed.number("shm-size") or 64 << 20,
        limits=_limits(parsed),
        jobs=parsed.number("jobs") or max(os.cpu_count() or 1, FEWEST_JOBS),
        access=access(environment, provided)._replace(offline=offline),
        pull="never" if offline else when(parsed),
        locked=parsed.flag("locked"),
        registry=lambda: _registry(parsed, environment),
        provided=provided,
        isolation=environment.sandbox._replace(require_network=parsed.flag("require-isolated-network")),
        ssh_auth_sock=environment.ssh_auth_sock,
    )


def _check_offline(parsed: Parsed, outputs: Sequence[Output]) -> None:
    """Raises UsageError for what cannot be done without a network."""
    if when(parsed) in ("always", "newer"):
        raise UsageError("--offline and --pull exclude each other", hint="leave one of them out")
    if any(output.type == "registry" for output in outputs):
        raise UsageError("--offline and a push exclude each other", hint="push the image afterwards: pybuild push NAME")
    for flag in ("cache-from", "cache-to"):
        for text in parsed.texts(flag):
            if "type=local" not in text and "type=inline" not in text:
                raise UsageError(f"--offline asks no registry for --{flag}={text}", hint="leave it out, or use type=local")


def _limits(parsed: Parsed) -> Limits | None:
    if not any(parsed.texts(flag.name) for flag in LIMITS):
        return None
    from builder.cli.limit_spec import parse_limits  # for those who limit

    return parse_limits(parsed)


def _check_several(wanted: Sequence[Platform], outputs: Sequence[Output]) -> None:
    """Raises UsageError for an output that holds one image alone."""
    if any(output.type == "engine" for output in outputs):
        raise UsageError(
            f"a Docker engine is handed an image for one platform, and there are {len(wanted)}",
            hint="leave --load out, or build for one --platform at a time",
        )
    if any(output.type == "docker" for output in outputs):
        raise UsageError(
            f"type=docker holds an image for one platform, and there are {len(wanted)}",
            hint="use type=oci, which holds an index, or build for one --platform at a time",
        )


def _registry(parsed: Parsed, environment: Environment) -> RegistryAccess:
    from builder.cli.registries import registry_access  # for those who pull or push

    return registry_access(parsed, environment)


def _cache_from(parsed: Parsed) -> tuple[CacheFrom, ...]:
    if not parsed.texts("cache-from"):
        return ()
    from builder.cli.cache_spec import parse_cache_from

    return tuple(place for text in parsed.texts("cache-from") for place in parse_cache_from(text))


def _cache_to(parsed: Parsed, args: Mapping[str, str], outputs: tuple[Output, ...]) -> tuple[CacheTo, ...]:
    inline = args.get(INLINE_CACHE_ARG, "")
    if not (parsed.texts("cache-to") or inline):
        return ()
    from builder.cli.cache_to import cache_to  # for those who write a cache

    return cache_to(parsed.texts("cache-to"), outputs, inline=inline)


def _provided(parsed: Parsed, environment: Environment, environ: Mapping[str, str]) -> Provided:
    if not (parsed.texts("secret") or parsed.texts("ssh")):
        return Provided()
    from builder.cli.provide import provide  # for those who give some

    secrets, agents = parsed.texts("secret"), parsed.texts("ssh")
    return provide(secrets, agents, environ, agent=environment.ssh_auth_sock, path=environment.path)


def access(environment: Environment, provided: Provided = _NOTHING) -> Access:
    """What fetching may use of this machine. The agent is in it where --ssh gives it as `default`, which ADD of git asks, as in
    BuildKit; keys that --ssh names are for RUN alone."""
    agent = provided.agents.get("default")
    known_hosts = f"{environment.home}/.ssh/known_hosts" if environment.home.startswith("/") else ""
    found = Access(proxies=environment.proxies, known_hosts=known_hosts)
    if isinstance(agent, AgentSocket):
        found = found._replace(ssh_auth_sock=agent.path)
    return found._replace(path=environment.path) if environment.path else found


def platforms(parsed: Parsed, environment: Environment) -> tuple[str, ...]:
    return parsed.texts("platform") or ((environment.default_platform,) if environment.default_platform else ())


def _epoch(parsed: Parsed, environment: Environment, args: Mapping[str, str]) -> int | None:
    given = args.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not (given.isascii() and given.isdigit() and len(given) <= 12):
            raise UsageError(f"SOURCE_DATE_EPOCH is '{given}', not a number of seconds", hint="date +%s prints one")
        return int(given)
    flag = parsed.number("source-date-epoch")
    return environment.source_date_epoch if flag is None else flag


def _outputs(texts: tuple[str, ...], tags: tuple[Reference, ...], environment: Environment) -> tuple[Output, ...]:
    if not texts:
        return ()
    from builder.cli.output_spec import parse_output

    specs = [spec for spec in map(parse_output, texts) if spec.type != "cacheonly"]
    found = tuple(_output(spec, tags, environment) for spec in specs)
    if sum(output.dest == "-" for output in found) > 1:
        raise UsageError("two outputs go to standard output", hint="add dest=FILE to all of them but one")
    return found


def _pushed(shown: str, compression: Form, names: tuple[Reference, ...]) -> Output:
    from builder.engine.exporting import Output

    if not names:
        raise UsageError(f"{shown} needs a name to push to", hint="add -t registry.example/name:tag")
    return Output("registry", ", ".join(name.familiar for name in names), compression=compression, names=names)


def _loaded(names: tuple[Reference, ...], environment: Environment) -> Output:
    from builder.cli.dockerhost import engine_socket
    from builder.engine.exporting import Output

    return Output("engine", engine_socket(environment), names=names)


def _output(spec: OutputSpec, tags: tuple[Reference, ...], environment: Environment) -> Output:
    from builder.engine.exporting import Output
    from builder.export.destination import check

    for key in spec.attrs:
        if key not in ("tar", "compression", "name", "oci-mediatypes", "force-compression", "push", "request"):
            raise UsageError(f"the key '{key}' of the output type '{spec.type}' is not built yet", hint="leave it out")
    if spec.attrs.get("oci-mediatypes") == "false" or spec.attrs.get("force-compression") == "true":
        raise UsageError(f"the output type '{spec.type}' has OCI media types and keeps foreign layers as they are")
    pushes = spec.type == "registry" or spec.attrs.get("push") == "true"
    if spec.type == "image" and not pushes and "compression" in spec.attrs:
        raise UsageError("the store compresses no layer", hint="compression counts for type=oci and type=docker")
    names = tuple(new_name(name) for name in spec.attrs.get("name", "").split(",") if name) or tags
    if pushes:
        form = spec.attrs.get("compression", "gzip")
        pushed = _pushed(f"type={spec.type}", form, names)  # type: ignore[arg-type]  # parse_output checks the compressions
        return pushed._replace(with_request=spec.attrs.get("request") == "true")
    if "request" in spec.attrs:
        raise UsageError("'request' is for what is pushed", hint=f"say type={spec.type},push=true, or leave it out")
    if spec.type == "docker" and not spec.dest:
        if "compression" in spec.attrs:
            raise UsageError(
                "a Docker engine is given layers without compression", hint="add dest=FILE, or leave compression out"
            )
        return _loaded(names, environment)
    if spec.dest == "-" and os.isatty(1):
        raise UsageError("an archive does not go to a terminal", hint="add dest=FILE, or redirect stdout")
    check(spec.dest, folder=spec.type == "local" or spec.attrs.get("tar") == "false")
    return Output(
        spec.type,  # type: ignore[arg-type]  # parse_output checks the types
        spec.dest,
        spec.attrs.get("tar") != "false",
        spec.attrs.get("compression", "gzip"),  # type: ignore[arg-type]  # and the compressions
        names,
    )


def _check_files(parsed: Parsed) -> None:
    """Say before the build what could not be written after it, and remove what an earlier one wrote there: a build that fails
    is not to leave another one's id. Raises UsageError."""
    for flag in ("iidfile", "metadata-file"):
        path = parsed.text(flag)
        if not path:
            continue
        if os.path.isdir(path):
            raise UsageError(f"'{path}' of --{flag} is a folder", hint="give the name of a file")
        folder = os.path.dirname(path)
        if folder and not os.path.isdir(folder):
            raise UsageError(f"the folder '{folder}' of --{flag} is not there", hint="make it first")
        # A device or a pipe, as /dev/null and a shell's >(...) are, stays what it is.
        if _is_stream(path):
            continue
        try:
            if os.path.lexists(path):
                # Where it is a link, that: a folder of sources may have one of this name, to whatever it is that we may write.
                os.unlink(path)
            tried = f"{path}.{os.urandom(6).hex()}"
            os.close(os.open(tried, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
            os.unlink(tried)
        except OSError as error:
            hint = "give another name"
            raise UsageError(f"'{path}' of --{flag} cannot be written: {error.strerror}", hint=hint) from error


def _write_files(parsed: Parsed, image: Image) -> None:
    """`--iidfile` and `--metadata-file`, under the keys that buildx uses."""
    if path := parsed.text("iidfile"):
        write_whole(path, str(image.id))
    if path := parsed.text("metadata-file"):
        import json

        from builder.cli.why import step_object

        # Of several platforms there are several configs, and buildx names none.
        several = len(image.platforms) > 1
        metadata: dict[str, object] = {} if several else {"containerimage.config.digest": str(image.id)}
        if image.manifest is not None:
            metadata["containerimage.digest"] = str(image.manifest)
        if image.names:
            metadata["image.name"] = ",".join(str(Reference.parse(name)) for name in image.names)
        metadata["pybuild.steps"] = [step_object(step) for step in image.steps]
        write_whole(path, json.dumps(metadata, indent=2, sort_keys=True) + "\n")


def write_whole(path: str, text: str, *, streams: bool = True) -> None:
    """Whole or not at all, since a script may be waiting for the file. A link is replaced; with `streams`, /dev/null and a pipe
    are not."""
    temporary = f"{path}.{os.urandom(6).hex()}"
    try:
        if streams and _is_stream(path):
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
            return
        # A folder of sources may have a link of this name.
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error


def _is_stream(path: str) -> bool:
    """Whether something is there, at the end of links, that is written to as it is: a character device, a pipe or a socket, as
    /dev/null, /dev/stdout and a shell's >(...) are."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
