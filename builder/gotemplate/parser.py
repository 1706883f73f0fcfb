"""From a template's text to its tree (Go's text/template/parse). Pure."""

from __future__ import annotations

from builder.errors import did_you_mean
from builder.gotemplate.functions import FUNCTIONS
from builder.gotemplate.lexer import Token, pieces, wrong
from builder.gotemplate.tree import Action, Branch, Chain, Command, Dot, Function, Leave, Literal, Nil, Pipe, Text, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.errors import UsageError
    from builder.gotemplate.lexer import Piece
    from builder.gotemplate.tree import Node, Operand

_BRANCHES = ("if", "range", "with")
_LEFT_OUT = ("block", "call", "define", "template")
_DEEPEST = 100


def parse(source: str) -> tuple[Node, ...]:
    """Raises UsageError, which says where."""
    parser = _Parser(source)
    body, end = parser.body({"$"}, loops=0, depth=0)
    if end is not None:
        raise wrong(source, end.at, f"unexpected '{{{{{end.text}}}}}'", "there is nothing that it ends")
    return tuple(body)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces: list[Piece] = list(pieces(source))[::-1]

    def body(self, known: set[str], *, loops: int, depth: int) -> tuple[list[Node], Token | None]:
        """Nodes up to `{{end}}` or `{{else}}`, whose token is returned, or to the end. `known` are the variables."""
        if depth > _DEEPEST:
            raise wrong(self._source, self._pieces[-1].at if self._pieces else 0, "it is nested too deeply")
        nodes: list[Node] = []
        while self._pieces:
            piece = self._pieces.pop()
            if piece.tokens is None:
                nodes.append(Text(piece.text))
                continue
            tokens = _Tokens(self._source, piece.tokens, piece.at)
            first = tokens.peek()
            word = first.text if first is not None and first.kind == "name" else ""
            if word in _LEFT_OUT:
                raise wrong(self._source, piece.at, f"'{word}' is not known here", "it needs a template of Go's own")
            if word in ("end", "else"):
                tokens.next()
                # What follows `else` is for the branch: `{{else if ...}}`.
                if word == "else" and tokens.peek() is not None:
                    self._pieces.append(piece._replace(tokens=tokens.rest()))
                    return nodes, Token("name", "else if", piece.at)
                tokens.finish()
                return nodes, Token("name", word, piece.at)
            if word in ("break", "continue"):
                tokens.next()
                tokens.finish()
                if not loops:
                    raise wrong(self._source, piece.at, f"'{word}' outside of a range")
                nodes.append(Leave(word, piece.at))
            elif word in _BRANCHES:
                tokens.next()
                nodes.append(self._branch(word, tokens, set(known), loops, depth))
            else:
                nodes.append(Action(tokens.whole(known)))
        return nodes, None

    def _branch(self, kind: str, tokens: _Tokens, known: set[str], loops: int, depth: int) -> Branch:
        pipe = tokens.whole(known, two=kind == "range")
        inside = loops + (kind == "range")
        body, end = self.body(set(known), loops=inside, depth=depth + 1)
        otherwise: list[Node] = []
        if end is not None and end.text == "else if":
            piece = self._pieces.pop()
            assert piece.tokens is not None
            more = _Tokens(self._source, piece.tokens, piece.at)
            word = more.next()
            if word is None or word.text not in ("if", "with") or kind == "range":
                raise wrong(self._source, piece.at, "unexpected words after 'else'", "it is {{else}} or {{else if ...}}")
            return Branch(kind, pipe, body, [self._branch(word.text, more, set(known), loops, depth + 1)])
        if end is not None and end.text == "else":
            otherwise, end = self.body(set(known), loops=loops, depth=depth + 1)
            if end is not None and end.text != "end":
                raise wrong(self._source, end.at, "a second 'else'")
        if end is None:
            raise wrong(self._source, pipe.at, f"'{kind}' has no end", "it ends with {{end}}")
        return Branch(kind, pipe, body, otherwise)


class _Tokens:
    """The tokens of one action. Spaces count only where they part fields from operands."""

    def __init__(self, source: str, tokens: Sequence[Token], at: int) -> None:
        self._source = source
        self._tokens = list(tokens)
        self._next = 0
        self._at = at
        self._depth = 0

    def peek(self) -> Token | None:
        while self._next < len(self._tokens) and self._tokens[self._next].kind == "space":
            self._next += 1
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def next(self) -> Token | None:
        token = self.peek()
        self._next += token is not None
        return token

    def rest(self) -> tuple[Token, ...]:
        return tuple(self._tokens[self._next :])

    def finish(self) -> None:
        token = self.peek()
        if token is not None:
            raise self._unexpected(token)

    def whole(self, known: set[str], *, two: bool = False) -> Pipe:
        """The pipe that is all of the action; `two` variables may be declared in a range."""
        pipe = self._pipe(known, two=two)
        self.finish()
        return pipe

    def _pipe(self, known: set[str], *, two: bool = False) -> Pipe:
        first = self.peek()
        at = first.at if first is not None else self._at
        variables, assigns = self._declared(known, two=two)
        commands = [self._command(known)]
        while self._is("|"):
            self.next()
            commands.append(self._command(known))
        for command in commands[1:]:
            if not isinstance(command.operands[0], (Function, Chain, Pipe)):
                raise wrong(self._source, command.at, "what takes the result of a pipe is a function")
        known.update(variables)
        return Pipe(variables, assigns, tuple(commands), at)

    def _declared(self, known: set[str], *, two: bool) -> tuple[tuple[str, ...], bool]:
        begun = self._next
        names: list[str] = []
        while (token := self.peek()) is not None and token.kind == "variable" and len(names) < (2 if two else 1):
            self.next()
            names.append(token.text)
            after = self.peek()
            if after is not None and after.kind == "sign" and after.text in (":=", "="):
                self.next()
                if after.text == "=":
                    for name in names:
                        self._check_known(name, token, known)
                return tuple(names), after.text == "="
            if not self._is(","):
                break
            self.next()
        self._next = begun
        return (), False

    def _command(self, known: set[str]) -> Command:
        first = self.peek()
        operands: list[Operand] = []
        while (token := self.peek()) is not None and not (token.kind == "sign" and token.text in "|)"):
            if operands and self._next and self._tokens[self._next - 1].kind != "space":
                raise self._unexpected(token)
            operands.append(self._operand(known))
        if first is None or not operands:
            raise wrong(self._source, first.at if first else self._at, "a value is missing", "as in {{.ID}}")
        if isinstance(operands[0], Nil):
            raise wrong(self._source, first.at, "nil alone is not a value to show")
        if len(operands) > 1 and not isinstance(operands[0], Function):
            raise wrong(self._source, first.at, "what is not a function takes no arguments")
        return Command(tuple(operands), first.at)

    def _operand(self, known: set[str]) -> Operand:
        token = self.next()
        assert token is not None
        found = self._plain(token, known)
        fields = []
        while self._next < len(self._tokens) and self._tokens[self._next].kind == "field":
            fields.append(self._tokens[self._next].text[1:])
            self._next += 1
        if isinstance(found, Chain):
            return found._replace(fields=(*found.fields, *fields))
        if fields and isinstance(found, (Nil, Literal)):
            raise wrong(self._source, token.at, f"'{token.text}' has no fields")
        return Chain(found, tuple(fields), token.at) if fields else found

    def _plain(self, token: Token, known: set[str]) -> Operand:
        match token.kind, token.text:
            case "field", text:
                return Chain(Dot(token.at), (text[1:],), token.at)
            case "sign", ".":
                return Dot(token.at)
            case "sign", "(":
                return self._parenthesis(token, known)
            case "variable", text:
                self._check_known(text, token, known)
                return Variable(text, token.at)
            case "string", text:
                return Literal(text, token.at)
            case "char", text if len(text) == 1:
                return Literal(ord(text), token.at)
            case "number", text:
                return Literal(self._number(text, token), token.at)
            case "name", "true" | "false":
                return Literal(token.text == "true", token.at)
            case "name", "nil":
                return Nil(token.at)
            case "name", text if text in FUNCTIONS:
                return Function(text, token.at)
            case "name", text:
                if text in _LEFT_OUT:
                    raise wrong(self._source, token.at, f"'{text}' is not known here", "it needs a template of Go's own")
                near = did_you_mean(text, FUNCTIONS)
                raise wrong(self._source, token.at, f"there is no function '{text}'", near or f"a field has a dot: .{text}")
        raise self._unexpected(token)

    def _parenthesis(self, token: Token, known: set[str]) -> Pipe:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise wrong(self._source, token.at, "it is nested too deeply")
        pipe = self._pipe(known)
        if not self._is(")"):
            raise wrong(self._source, token.at, "the parenthesis is not closed")
        self.next()
        self._depth -= 1
        return pipe

    def _number(self, text: str, token: Token) -> int | float:
        try:
            digits = text.replace("_", "")
            if digits.lstrip("+-").isdigit():
                # Go reads a leading zero as base 8.
                return int(digits, 8 if len(digits.lstrip("+-")) > 1 and digits.lstrip("+-")[0] == "0" else 10)
            if digits.lstrip("+-")[:2].lower() in ("0x", "0b", "0o"):
                return int(digits, 0)
            return float(digits)
        except ValueError:
            raise wrong(self._source, token.at, f"'{text[:40]}' is no number") from None

    def _check_known(self, name: str, token: Token, known: set[str]) -> None:
        if name not in known:
            raise wrong(self._source, token.at, f"there is no variable '{name}'", did_you_mean(name, known - {"$"}))

    def _is(self, sign: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "sign" and token.text == sign

    def _unexpected(self, token: Token) -> UsageError:
        return wrong(self._source, token.at, f"unexpected '{token.text}'")
