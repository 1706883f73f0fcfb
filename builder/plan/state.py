"""A stage while its instructions are read, top to bottom: its config, its variables, its history. Pure."""

from __future__ import annotations

from builder.dockerfile.ast import ExecForm, ShellForm, Word
from builder.errors import BuildError, DockerfileError
from builder.oci.image import History
from builder.plan.expand import expand, expand_list
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from typing import Literal, TypeVar

    from builder.dockerfile.ast import Command, Flag
    from builder.errors import Span
    from builder.oci.image import ImageConfig
    from builder.oci.platform import Platform
    from builder.plan.steps import BaseImage, Warn

    _T = TypeVar("_T")
    _V = TypeVar("_V")

_GROWING = ("env", "labels", "exposed", "volumes")
DEFAULT_SHELL = ("/bin/sh", "-c")


class Settings(NamedTuple):
    """What the user asked for beside the Dockerfile."""

    build_args: Mapping[str, str]
    platform: Platform
    epoch: int
    """SOURCE_DATE_EPOCH as a RUN sees it that does not declare the ARG: seconds since 1970."""
    labels: tuple[tuple[str, str], ...] = ()
    network: Literal["default", "host", "none"] = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 * 1024 * 1024
    directories: Collection[str] = ()
    """Names of the named contexts that are folders."""
    uncached: tuple[str, ...] = ()
    """Names of stages whose steps are done anew (`--no-cache-filter`)."""
    several: bool = False
    """Whether `platform` is one of several that are built: then the names of steps say it."""
    ulimits: tuple[tuple[str, int, int], ...] = ()


class _Variables(dict[str, str]):
    """The environment; a variable that it does not have is looked for among the ARGs."""

    def __init__(self, env: Iterable[tuple[str, str]], args: dict[str, str]) -> None:
        super().__init__(env)
        self._args = args

    def __missing__(self, name: str) -> str:
        return self._args[name]


class State:
    """A stage so far. `step` is the plan's step whose file system it has."""

    def __init__(self, base: BaseImage, step: int, settings: Settings, global_args: Mapping[str, str], escape: str) -> None:
        self.base = base
        self.step = step
        self.stage = ""
        """What messages call the stage."""
        self.settings = settings
        self.platform = settings.platform
        """What its commands are run for."""
        self.global_args = global_args
        self.escape = escape
        self.args: dict[str, str] = {}
        self._config = base.config
        self._stale = False
        self._grow_from(base.config)
        self.history: list[History] = []
        self.declared: dict[str, str] = {}
        """ARGs in the order of their declaration, for the history line of a RUN."""
        self.cmd_set = False
        self.warnings: list[Warn] = []
        self.workdir_set = False
        """Whether a WORKDIR stood in the stage or in one that it builds on."""
        self.last: dict[str, Span] = {}
        """Where the last CMD, ENTRYPOINT and HEALTHCHECK of this stage stand."""

    def _grow_from(self, config: ImageConfig) -> None:
        self._env: dict[str, str] = _Variables(config.env, self.args)
        self._changed: dict[str, str] = {}
        self._labels = dict(config.labels)
        self._exposed = set(config.exposed)
        self._volumes = set(config.volumes)

    @property
    def config(self) -> ImageConfig:
        """The config so far. What grows line by line is put into it when it is asked for: a Dockerfile may have 50,000 lines of
        ENV, and a tuple made anew for each would take minutes."""
        if self._stale:
            self._config = self._config._replace(
                env=self._merged_env(),
                labels=tuple(sorted(self._labels.items())),
                exposed=frozenset(self._exposed),
                volumes=frozenset(self._volumes),
            )
            self._changed, self._stale = {}, False
        return self._config

    @config.setter
    def config(self, config: ImageConfig) -> None:
        if self._stale or any(getattr(config, name) is not getattr(self._config, name) for name in _GROWING):
            self._grow_from(config)
        self._config, self._stale = config, False

    def _merged_env(self) -> tuple[tuple[str, str], ...]:
        """What a base names twice stays there twice, as in Docker."""
        changed = self._changed
        known = {name for name, _ in self._config.env}
        kept = ((name, changed.get(name, value)) for name, value in self._config.env)
        return (*kept, *((name, value) for name, value in changed.items() if name not in known))

    def setenv(self, name: str, value: str) -> None:
        """Set a variable of the config; one that is there keeps its place."""
        self._env[name] = self._changed[name] = value
        self._stale = True

    def setlabel(self, name: str, value: str) -> None:
        self._labels[name] = value
        self._stale = True

    def expose(self, ports: Iterable[str]) -> None:
        self._exposed.update(ports)
        self._stale = True

    def add_volumes(self, paths: Iterable[str]) -> None:
        self._volumes.update(paths)
        self._stale = True

    def child(self) -> State:
        """What a stage begins with that is built FROM this one."""
        state = State(self.base, self.step, self.settings, self.global_args, self.escape)
        state.config = self.config._replace(onbuild=())
        state.history = list(self.history)
        state.args.update(self.args)
        state.declared = dict(self.declared)
        state.workdir_set = self.workdir_set
        state.platform = self.platform
        return state

    def weight(self) -> int:
        """Bytes, roughly, of what a child takes over."""
        return 8 * len(self.history) + 100 * (len(self._env) + len(self.args) + len(self._labels) + len(self.declared))

    def variables(self) -> dict[str, str]:
        """ENV beats ARG, whichever came first."""
        return {**self.args, **self._env}

    def arguments(self) -> tuple[str, ...]:
        """Names of the ARGs that are seen: those that no ENV hides."""
        return tuple(name for name in self.args if name not in self._env)

    def scope(self) -> Mapping[str, str]:
        """The same for what reads some of them by `[]`, without a copy."""
        return self._env

    def word(self, word: Word) -> str:
        """`word` expanded as the stage is now."""
        return expand(word, self.scope(), self.escape, lambda name: self.undefined(word, name))

    def words(self, word: Word) -> list[str]:
        """The same for a word that may become several, or none."""
        return expand_list(word, self.scope(), self.escape, lambda name: self.undefined(word, name))

    def undefined(self, word: Word, name: str) -> None:
        """Warn of a variable that `word` reads and nothing set. An ARG without a value is declared, which is enough."""
        if name not in self.declared:
            from builder.plan.stagechecks import undefined_variable

            self.warnings.append(undefined_variable(word, name, self.variables()))

    def nonempty(self, word: Word, keyword: str) -> str:
        """`word` expanded; DockerfileError where that is nothing."""
        text = self.word(word)
        if not text:
            from builder.plan.hints import empty_argument

            hint = empty_argument(word, self.variables(), self.escape)
            raise DockerfileError(f"{keyword} has an empty argument: '{word.text}' expands to nothing", word.span, hint=hint)
        return text

    def argv(self, command: Command) -> tuple[str, ...]:
        """What is run for a command: the shell form goes to the stage's SHELL."""
        match command:
            case ExecForm(words=words):
                return words
            case ShellForm(text=text):
                return self.in_shell(text)

    def in_shell(self, text: str) -> tuple[str, ...]:
        """What is run for a command line."""
        return (*(self.config.shell or DEFAULT_SHELL), text)

    def configure(self, line: str, **changes: object) -> None:
        """Change fields of the config, with a line of history."""
        config: ImageConfig = self.config._replace(**changes)  # type: ignore[arg-type]  # _replace checks the names
        self.config = config
        self.history.append(History(line))


def flag_word(flag: Flag) -> Word:
    """The value of a flag as a word at its place: after `--name=` when it stands there without quotes, else the flag."""
    value, span = flag.value or "", flag.span
    if span.line == span.end_line and span.end_column - span.column == len(flag.name) + 3 + len(value):
        span = span._replace(column=span.column + len(flag.name) + 3)
    return Word(value, span)


def told_at(word: Word, function: Callable[[_V], _T], value: _V) -> _T:
    """`function(value)`, its error moved to `word`."""
    try:
        return function(value)
    except BuildError as error:
        raise DockerfileError(error.message, word.span, hint=error.hint) from None
