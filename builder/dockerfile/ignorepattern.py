"""One pattern of a .dockerignore: what it matches, and how far down it may reach. Pure.

Source: the Docker documentation, "Build context", ".dockerignore files", and the behaviour of moby/patternmatcher:
`filepath.Match` over the whole path, and `**` for any number of folders.

- `**` at the end is everything that begins so; `**` elsewhere is nothing, or anything up to a `/`.
- `**name` with nothing special behind it is every path that ends in `name`, in the middle of a name too; `**na*` is not.
- A class that is no range to a regular expression (`[z-a]`) is an error, where `filepath.Match` alone takes it.

Where patternmatcher lets regular expressions shine through (`\\d` a digit, `^` an anchor, `*` inside `[...]`), the
documented rule holds here: `\\d` is a `d`, the others are themselves.
"""

from __future__ import annotations

from builder.dockerfile.goglob import Class, Wildcard, tokens
from builder.errors import DockerfileError
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

    from builder.dockerfile.goglob import Token

_MAX_GUESSES = 2
"""Wildcards of one pattern that a regular expression may have to try in several places: each multiplies the time that a
path takes with its length. Patterns with more, which nobody writes, are walked state by state: slowly, but surely."""

_STAR = Wildcard("*")
_DEEP = Wildcard("**")


class Form(NamedTuple):
    """What a path must be to match: all that are not empty are alternatives."""

    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None
    """For a full match, `.` being any character."""
    states: tuple[Token, ...] = ()
    """For `walk`, where a regular expression could take exponential time."""


class Reach(NamedTuple):
    """Which folders hold paths that a pattern can match."""

    components: tuple[re.Pattern[str], ...]
    """One for each folder of the path from the top."""
    onward: bool
    """Whether any depth may follow below them."""

    def below(self, folder: str) -> bool:
        """Whether a path strictly below `folder` can match; True in doubt."""
        names = folder.split("/")
        if not all(component.fullmatch(name) for component, name in zip(self.components, names)):
            return False
        return self.onward or len(names) < len(self.components)


class Pattern(NamedTuple):
    form: Form
    parts: tuple[Token, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """`text` is clean (no `//`, `.` or `..`) and has no `!`. Raises DockerfileError without a usable span."""
        parts = _parts(text)
        _check_ranges(text, parts)
        return cls(_form(text, parts), tuple(parts))

    def reach(self) -> Reach:
        return _reach(self.parts)


def _parts(text: str) -> list[Token]:
    """The pattern's tokens, two stars made one."""
    parts: list[Token] = []
    for token in tokens(text):
        if token == _STAR and parts and parts[-1] == _STAR:
            parts[-1] = _DEEP
        else:
            parts.append(token)
    return parts


def _check_ranges(text: str, parts: list[Token]) -> None:
    for part in parts:
        for low, high in part.ranges if isinstance(part, Class) else ():
            if low > high:
                raise DockerfileError(
                    f"the pattern '{text}' has a range that runs backwards, {low}-{high}",
                    hint=f"write {high}-{low}, or \\[ when the [ is part of the name",
                )


def _form(text: str, parts: list[Token]) -> Form:
    special = [index for index, part in enumerate(parts) if not isinstance(part, str)]
    if not special:
        return Form(exact=_literal(parts))
    if special == [0] and parts[0] == _DEEP and "\\" not in text:
        suffix = _literal(parts[1:])
        # `**/name` is also the name alone.
        return Form(suffix=suffix, exact=suffix[1:] if suffix.startswith("/") else None)
    if special == [len(parts) - 1] and parts[-1] == _DEEP and "\\" not in text:
        return Form(prefix=_literal(parts[:-1]))
    first, pieces = _pieces(parts)
    regex, guesses = _regex(first, pieces)
    if guesses > _MAX_GUESSES:
        return Form(states=(*first, *(token for piece in pieces for token in (piece.star, *piece.body))))
    return Form(regex=regex)


def _literal(parts: list[Token]) -> str:
    return "".join(part for part in parts if isinstance(part, str))


class _Piece(NamedTuple):
    """A star, one or two, and what stands between it and the next."""

    star: Wildcard
    body: list[Token]


def _regex(first: list[Token], pieces: list[_Piece]) -> tuple[str, int]:
    """A regular expression for a full match, and how many wildcards it may have to try in several places."""
    out = "".join(_one(token) for token in first)
    guesses = 0
    for piece, following in zip(pieces, [*pieces[1:], None]):
        one = _piece_regex(piece, last=following is None)
        if following is not None and _settled(piece, following, following is pieces[-1]):
            # An atomic group: the first place that fits is kept.
            out += f"(?>{one})"
        else:
            out += one
            guesses += following is not None
    return out, guesses


def _pieces(parts: list[Token]) -> tuple[list[Token], list[_Piece]]:
    """What stands before the first star, and the rest. `**/` is `**`, and one `**` after another adds nothing."""
    first: list[Token] = []
    pieces: list[_Piece] = []
    for part in parts:
        if part == _DEEP and pieces and pieces[-1] == _Piece(_DEEP, []):
            continue
        if part in (_STAR, _DEEP):
            pieces.append(_Piece(_STAR if part == _STAR else _DEEP, []))
        elif not pieces:
            first.append(part)
        elif part != "/" or pieces[-1] != _Piece(_DEEP, []):
            pieces[-1].body.append(part)
    return first, pieces


def _settled(piece: _Piece, following: _Piece, following_is_last: bool) -> bool:
    """Whether the first place where `piece` fits is right whatever comes after, since the next star can fill the way to
    every later place. A `*` fills none beyond the next `/`, a `**` before more none but up to a `/`."""
    if any(_takes_slash(token) for token in piece.body):
        return False
    if following.star == _STAR:
        return piece.star == _STAR
    if following_is_last and not following.body:
        return True
    return "/" in piece.body if piece.star == _STAR else piece.body[-1:] == ["/"]


def _piece_regex(piece: _Piece, *, last: bool) -> str:
    body = "".join(_one(token) for token in piece.body)
    if piece.star == _STAR:
        return f"[^/]*{'' if last else '?'}{body}"
    return f"(?:.*?/)??{body}" if piece.body or not last else ".*"


def _one(token: Token) -> str:
    match token:
        case Class():
            return token.regex()
        case Wildcard():
            return "[^/]"
        case _:
            import re

            return re.escape(token)


def _takes_slash(token: Token) -> bool:
    return isinstance(token, Class) and token.has("/")


def walk(states: tuple[Token, ...], path: str) -> bool:
    """Whether the whole path matches; takes the product of the lengths at most."""
    at = _skip(states, 0)
    for char in path:
        at = {after for state in at if state < len(states) for after in _step(states, state, char)}
    return len(states) in at


def _skip(states: tuple[Token, ...], state: int) -> set[int]:
    """`state`, and the states behind the stars that it may stand before."""
    out = {state}
    while state < len(states) and states[state] in (_STAR, _DEEP):
        state += 1
        out.add(state)
    return out


def _step(states: tuple[Token, ...], state: int, char: str) -> set[int]:
    match states[state]:
        case Wildcard("**"):
            # In the middle it ends behind a `/` alone.
            ends = char == "/" or state + 1 == len(states)
            return {state} | (_skip(states, state + 1) if ends else set())
        case Wildcard("*"):
            return _skip(states, state) if char != "/" else set()
        case Wildcard():
            taken = char != "/"
        case Class() as one:
            taken = one.has(char)
        case literal:
            taken = char == literal
    return _skip(states, state + 1) if taken else set()


def _reach(parts: tuple[Token, ...]) -> Reach:
    import re  # for those who use `!`

    components: list[list[Token]] = [[]]
    onward = False
    for part in parts:
        if part == _DEEP or _takes_slash(part):
            components.pop()
            onward = True
            break
        if part == "/":
            components.append([])
        else:
            components[-1].append(part)
    return Reach(tuple(re.compile(_regex(*_pieces(each))[0], re.DOTALL) for each in components), onward)
