"""COPY and ADD: from the instruction to a step, with its flags, its sources and its line of history. Pure.

Source: the Dockerfile reference, "COPY" and "ADD"; moby/buildkit, dockerfile2llb/convert_copy.go.
"""

from __future__ import annotations

from builder.dockerfile.checks.warning import Warn
from builder.oci.image import History
from builder.plan import copyflags, fields, remotes
from builder.plan.state import flag_word
from builder.plan.steps import CopySource, CopyStep
from builder.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import Copy, Flag
    from builder.plan.modes import Mode
    from builder.plan.origins import Origin
    from builder.plan.state import State


def copy_step(state: State, instruction: Copy, number: int, name: str, origin: Origin) -> CopyStep:
    """The step `number` of a COPY or ADD, whose line is put into the history. Raises DockerfileError at what is wrong."""
    flags = _Flags(state, instruction)
    paths = tuple(CopySource(state.nonempty(word, instruction.keyword), word.span) for word in instruction.sources)
    sources = remotes.resolve(paths, instruction.keyword, flags.remote)
    # A heredoc is never an archive.
    is_local = any(isinstance(source, CopySource) for source in sources)
    unpack = (is_local and instruction.keyword == "ADD") if flags.remote.unpack is None else flags.remote.unpack
    shown = [redact(path.path) for path in paths]
    if instruction.heredocs:
        from builder.plan import heredocs

        # After the other sources, wherever they stand: so has them BuildKit.
        inline = heredocs.files(instruction, state.variables(), state.undefined)
        sources, shown = (*sources, *inline), [*shown, *(f"<<{each.name}" for each in inline)]
    # An empty destination is the WORKDIR (moby/buildkit, dockerfile_copy_test.go, testEmptyDestDir).
    dest = state.word(instruction.dest)
    state.history.append(History(" ".join([instruction.keyword, *flags.shown(), *shown, dest]), number))
    return CopyStep(
        number,
        name,
        instruction.span,
        state.step,
        instruction.keyword,
        origin,
        sources,
        fields.destination(state.config.workdir, dest),
        instruction.dest.span,
        flags.chown,
        flags.chown_span,
        flags.chmod,
        unpack,
        tuple(flags.exclude),
        flags.parents,
        flags.link,
        state.stage,
    )


class _Flags:
    """The flags of one instruction, expanded."""

    def __init__(self, state: State, instruction: Copy) -> None:
        self.chown, self.chown_span = "", instruction.span
        self.chmod: Mode | None = None
        self.chmod_text = ""
        self.exclude: list[str] = []
        self.parents = self.link = False
        self.remote = remotes.Options()
        for flag in instruction.flags:
            self._read(state, flag, instruction.keyword)
        # With --chmod BuildKit copies as if --link were not there (dockerfile2llb/convert_copy.go, dispatchCopy).
        if self.link and self.chmod_text:
            self.link = False
            message = f"{instruction.keyword} --link has no effect beside --chmod, as in BuildKit"
            state.warnings.append(Warn("LinkIgnored", message, instruction.span))
        if self.link:
            copyflags.check_owner(instruction.keyword, self.chown, self.chown_span)

    def _read(self, state: State, flag: Flag, keyword: str) -> None:
        match flag.name:
            case "from":
                pass
            case "chown":
                self.chown, self.chown_span = state.word(flag_word(flag)), flag.span
            case "chmod":
                self.chmod_text, self.chmod = copyflags.mode(state, flag)
            case "exclude":
                self.exclude += copyflags.exclusion(state, flag)
            case "link":
                self.link = _is_on(flag)
            case "parents":
                self.parents = _is_on(flag)
            case "unpack":
                self.remote = self.remote._replace(unpack=_is_on(flag))
            case "keep-git-dir":
                self.remote = self.remote._replace(keep_git_dir=_is_on(flag))
            case "checksum":
                word = flag_word(flag)
                self.remote = self.remote._replace(checksum=state.word(word), checksum_span=word.span)
            case _:
                raise AssertionError(f"{keyword} has a flag --{flag.name} that nobody reads")

    def shown(self) -> list[str]:
        """As the history has them."""
        owner, mode = [f"--chown={self.chown}"] * bool(self.chown), [f"--chmod={self.chmod_text}"] * bool(self.chmod_text)
        return [*["--parents"] * self.parents, *owner, *mode]


def _is_on(flag: Flag) -> bool:
    return (flag.value or "true").lower() == "true"
