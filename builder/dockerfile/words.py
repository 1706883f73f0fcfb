"""Words of the Dockerfile: quotes, escapes and variables are taken out, as BuildKit's shell lexer does it. Pure.

Source: the Dockerfile reference, "Environment replacement". It looks like a shell and is not one:

- the text after a modifier is always expanded, also where it is not used (`${set:-${unset?no}}` is an error);
- quotes are taken out of it too, also where the whole stands in double quotes;
- inside double quotes the escape character takes `"`, `$` and itself alone, else it stays; outside it takes anything;
- `$1`, `$@` and the other parameters of a shell are variables that are not set; a `$` before anything else stays.

Spans are relative to the word: `Span(1, column, 1, end)` counts its characters from 1, line ends too.
"""

from __future__ import annotations

from builder.dockerfile.space import SPACE
from builder.errors import DockerfileError, Span
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_DEPTH = 64
"""Levels of `${a:-${b:-...}}` in each other. More is refused: the scanner recurses, and nobody writes that."""

MAX_LENGTH = 4 << 20
"""Characters that a word may expand to: `$a$a` in a chain of ENV lines doubles with each of them."""
TOO_LARGE = "put large content into a file of the build context and COPY it"

UNCLOSED_SINGLE, UNCLOSED_DOUBLE = "the single quote is not closed", "the double quote is not closed"
"""What an error says."""

_ASCII_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_MODIFIERS = "the modifiers are :- - :+ + :? ? # ## % %% / and //"


class _Text(NamedTuple):
    text: str
    splits: bool
    """Unquoted: a list of words is split at its white space."""


def expand(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    missing: Callable[[str], None] | None = None,
) -> str:
    """The word with quotes, escapes and variables replaced; white space stays (ProcessWord).

    `missing` is told the name of each variable that is read, is not set, and has no `-` or `+` that provides for it.
    Raises DockerfileError with a span relative to the word.
    """
    if not _special(word, escape):
        return word
    return _join(_Scanner(word, env, escape, missing).scan())


def expand_list(
    word: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    missing: Callable[[str], None] | None = None,
) -> list[str]:
    """Expanded, then split at white space that is not quoted; empty words vanish, quoted ones too (ProcessWords).

    Raises DockerfileError with a span relative to the word.
    """
    words = [""]
    for text, splits in _Scanner(word, env, escape, missing).scan():
        first, *more = _split(text) if splits else [text]
        words[-1] += first
        words += more
    return [each for each in words if each]


def expand_heredoc(body: str, env: Mapping[str, str], *, missing: Callable[[str], None] | None = None) -> str:
    """The body of a heredoc of COPY or ADD whose name was not quoted.

    Quotes stay. The escape character is `\\` whatever the directive says, and is taken out before anything. Raises
    DockerfileError with a span relative to the body.
    """
    if not _special(body, "\\"):
        return body
    return _join(_Scanner(body, env, "\\", missing, quotes=False).scan())


def needed(word: str, *, escape: str = "\\") -> frozenset[str]:
    """The names of all variables that the word reads, set or not. Raises DockerfileError as `expand` does."""
    seen = _Seen()
    expand(word, seen, escape=escape)
    return frozenset(seen.names)


class _Seen(dict[str, str]):
    """An environment in which everything is set, and that remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __missing__(self, name: str) -> str:
        self.names.add(name)
        return "x"


def _special(word: str, escape: str) -> bool:
    return "$" in word or escape in word or '"' in word or "'" in word or word.startswith("\ufeff")


def _join(texts: list[_Text]) -> str:
    return "".join(text for text, _ in texts)


def _split(text: str) -> list[str]:
    """Split at runs of white space; text that begins or ends with one has an empty word there."""
    inner = text.strip(SPACE)
    if not inner:
        return ["", ""] if text else [""]
    words: list[str] = []
    start = 0
    for at, char in enumerate(inner):
        if char in SPACE:
            if at > start:
                words.append(inner[start:at])
            start = at + 1
    words.append(inner[start:])
    before, after = not text.startswith(inner), not text.endswith(inner)
    return [*([""] if before else []), *words, *([""] if after else [])]


def _plain_end(text: str, start: int, special: str) -> int:
    """Where the run of characters ends that begins at `start` and holds none of `special`."""
    for end in range(start, len(text)):
        if text[end] in special:
            return end
    return len(text)


class _Scanner:
    """One pass over one word. `at` is the next character's index; each method reads on from there."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        missing: Callable[[str], None] | None,
        *,
        quotes: bool = True,
    ) -> None:
        self.text = text
        self.env = env
        self.escape = escape
        self.missing = missing
        self.special = f"${escape}'\"" if quotes else f"${escape}"
        self.quotes = quotes
        # BuildKit's scanner drops a byte order mark at the start of what it reads.
        self.at = 1 if text.startswith("\ufeff") else 0
        self.depth = 0
        self.size = 0

    def scan(self) -> list[_Text]:
        return self._until("", raw=False, opened=0)

    def _until(self, stop: str, *, raw: bool, opened: int) -> list[_Text]:
        """Everything up to `stop`, which is consumed; to the end when it is empty.

        `raw` keeps the escape characters for the pattern that this is; `opened` is where the `${` stands.
        """
        special = self.special + stop
        texts: list[_Text] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == stop:
                self.at += 1
                return texts
            if char == "$":
                texts.append(_Text(self._dollar(), True))
            elif char == "'" and self.quotes:
                texts.append(_Text(self._single_quoted(), False))
            elif char == '"' and self.quotes:
                texts.append(_Text(self._double_quoted(raw), False))
            elif char == self.escape:
                texts.append(_Text(self._escaped(raw), False))
            else:
                start, self.at = self.at, _plain_end(self.text, self.at, special)
                texts.append(_Text(self.text[start : self.at], True))
        if stop:
            raise self._unclosed(opened, stop)
        return texts

    def _escaped(self, raw: bool) -> str:
        """The escape character and what it escapes; at the very end it escapes nothing and vanishes."""
        char = self.text[self.at + 1 : self.at + 2]
        self.at += 1 + len(char)
        return self.escape + char if raw else char

    def _single_quoted(self) -> str:
        start = self.at
        end = self.text.find("'", start + 1)
        if end < 0:
            raise self._error(UNCLOSED_SINGLE, start, hint=f"add the missing ', or write {self.escape}' for a plain one")
        self.at = end + 1
        return self.text[start + 1 : end]

    def _double_quoted(self, raw: bool) -> str:
        start = self.at
        self.at += 1
        special = f'"${self.escape}'
        out: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(out)
            if char == "$":
                out.append(self._dollar())
            elif char == self.escape:
                out.append(self._escaped_in_quotes(raw))
            else:
                begin, self.at = self.at, _plain_end(self.text, self.at, special)
                out.append(self.text[begin : self.at])
        raise self._error(UNCLOSED_DOUBLE, start, hint=f'add the missing ", or write {self.escape}" for a plain one')

    def _escaped_in_quotes(self, raw: bool) -> str:
        char = self.text[self.at + 1 : self.at + 2]
        if char and char in f'"${self.escape}':
            self.at += 2
        else:
            # The escape character itself, literally: in a pattern that is an escaped one.
            char = self.escape
            self.at += 1
        return self.escape + char if raw else char

    def _dollar(self) -> str:
        """`$name` or `${...}`; a `$` that begins neither."""
        start = self.at
        self.at += 1
        if self.text.startswith("{", self.at):
            self.at += 1
            value = self._braces(start)
        else:
            name = self._name()
            value = self._value(name) if name else "$"
        self.size += len(value)
        if self.size > MAX_LENGTH:
            message = f"the word expands to more than {MAX_LENGTH} characters"
            raise self._error(message, start, self.at, hint=TOO_LARGE)
        return value

    def _name(self) -> str:
        """A name, digits, or one of the shell's special parameters; empty when none stands here."""
        start = self.at
        first = self.text[start : start + 1]
        if first and first in "@*#?-$!":
            self.at += 1
            return first
        belongs = str.isdecimal if first.isdecimal() else _in_name
        text, end = self.text, start
        while end < len(text) and belongs(text[end]):
            end += 1
        self.at = end
        return text[start:end]

    def _lookup(self, name: str) -> str | None:
        try:
            return self.env[name]
        except KeyError:
            return None

    def _value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None and self.missing is not None:
            self.missing(name)
        return value or ""

    def _braces(self, start: int) -> str:
        """What follows a `${` that stands at `start`."""
        if self.text[self.at : self.at + 1] in ("{", "}", ":"):
            raise self._error("'${' is not followed by a name", start, self.at + 1, hint=self._dollar_hint())
        name = self._name()
        colon = self._take(":")
        operator = self.text[self.at : self.at + 1]
        self.at += len(operator)
        match operator:
            case "}" if not colon:
                return self._value(name)
            case "-" | "+" | "?":
                return self._alternative(name, operator, bool(colon), start)
            case "#" | "%":
                return self._trimmed(name, operator, start)
            case "/" if not colon:
                return self._replaced(name, start)
            case "" | "\n":
                raise self._unclosed(start, "}")
            case _:
                raise self._error(f"'{colon}{operator}' is not a modifier of a variable", start, self.at, hint=_MODIFIERS)

    def _alternative(self, name: str, operator: str, empty_is_unset: bool, start: int) -> str:
        """`${v-w}`, `${v+w}` and `${v?w}`, with or without the colon."""
        word = self._nested("}", raw=False, start=start)
        value = self._lookup(name)
        is_set = bool(value) if empty_is_unset else value is not None
        match operator:
            case "-":
                return value or "" if is_set else word
            case "+":
                return word if is_set else ""
            case _:
                if not is_set:
                    state = "unset" if value is None else "empty"
                    raise self._error(
                        f"{name}: {word or f'is not allowed to be {state}'}", start, self.at, hint=f"give '{name}' a value"
                    )
                return value or ""

    def _trimmed(self, name: str, operator: str, start: int) -> str:
        """`${v#p}`, `${v##p}`, `${v%p}` and `${v%%p}`."""
        text = self._nested("}", raw=True, start=start)
        # Doubled is what the pattern begins with once it is expanded: `${v#$p}` may well be `##`.
        longest = text.startswith(operator)
        from builder.dockerfile import wordpattern  # for the few who use patterns

        trim = wordpattern.trim_prefix if operator == "#" else wordpattern.trim_suffix
        value = self._value(name)
        try:
            return trim(value, wordpattern.Pattern.parse(text[longest:]), longest=longest)
        except DockerfileError as error:
            error.span = self._span(start, self.at)
            raise

    def _replaced(self, name: str, start: int) -> str:
        """`${v/p/r}` and `${v//p/r}`."""
        from builder.dockerfile import wordpattern

        replace = wordpattern.replace_all if self._take("/") else wordpattern.replace_first
        text = self._nested("/", raw=True, start=start)
        replacement = self._nested("}", raw=True, start=start)
        value = self._value(name)
        try:
            return replace(value, wordpattern.Pattern.parse(text), replacement)
        except DockerfileError as error:
            error.span = self._span(start, self.at)
            raise

    def _nested(self, stop: str, *, raw: bool, start: int) -> str:
        if self.depth == MAX_DEPTH:
            raise self._error(
                f"variables stand in each other more than {MAX_DEPTH} levels deep",
                start,
                hint="set some of them in an ARG or ENV before",
            )
        self.depth += 1
        text = _join(self._until(stop, raw=raw, opened=start))
        self.depth -= 1
        return text

    def _take(self, char: str) -> str:
        """`char` when it comes next, else nothing."""
        if not self.text.startswith(char, self.at):
            return ""
        self.at += 1
        return char

    def _dollar_hint(self) -> str:
        return f"write ${{name}}, or {self.escape}$ for a plain dollar sign"

    def _unclosed(self, start: int, stop: str) -> DockerfileError:
        if stop == "/":
            return self._error("the pattern has no '/' after it", start, hint="write ${name/pattern/replacement}")
        return self._error(
            "'${' is not closed", start, hint=f"add the missing }}, or write {self.escape}$ for a plain dollar sign"
        )

    def _span(self, start: int, end: int) -> Span:
        return Span(1, start + 1, 1, end + 1)

    def _error(self, message: str, start: int, end: int | None = None, *, hint: str | None = None) -> DockerfileError:
        """`end` None: what is wrong goes on to the end of the word."""
        return DockerfileError(message, self._span(start, len(self.text) if end is None else end), hint=hint)


def _in_name(char: str) -> bool:
    """Letters and decimal digits of any script (Go's unicode.IsLetter and IsDigit), and `_`."""
    return char in _ASCII_NAME or char.isalpha() or char.isdecimal()
