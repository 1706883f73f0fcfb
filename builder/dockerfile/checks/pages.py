"""The rules' pages in docs/checks/, made of their docstrings. `make docs` writes them, and a test compares."""

from __future__ import annotations

import textwrap

from builder.dockerfile.checks.rules import RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.checks.rules import Rule

_INDEX = """# Build checks

What `pybuild check` and every build look at: BuildKit's rules, by its names and in its words. How to run them, skip them and
make errors of them is told in [check.md](../check.md). These pages are made of the rules' docstrings by `make docs`.

| name | what it says |
| --- | --- |
{rows}
"""

_PAGE = """# {name}

{description}{experimental}

```text
{message}
```

{text}"""

_EXPERIMENTAL = "\n\nThis rule is experimental: it speaks where `check=experimental=` names it."
_EXAMPLES = {
    "StageNameCasing": ("BuildBase",),
    "FromAsCasing": ("FROM", "as"),
    "ConsistentInstructionCasing": ("run", "uppercase"),
    "DuplicateStageName": ("builder",),
    "ReservedStageName": ("scratch",),
    "JSONArgsRecommended": ("ENTRYPOINT",),
    "UndefinedArgInFrom": ("VARIANT", ""),
    "WorkdirRelativePath": ("html",),
    "UndefinedVar": ("SOURCE", ""),
    "MultipleInstructionsDisallowed": ("CMD",),
    "LegacyKeyValueFormat": ("ENV",),
    "InvalidBaseImagePlatform": ("tool-for-arm", "linux/arm64", "linux/amd64"),
    "RedundantTargetPlatform": ("$TARGETPLATFORM",),
    "SecretsUsedInArgOrEnv": ("ARG", "NPM_TOKEN"),
    "InvalidDefaultArgInFrom": ("alpine:$TAG",),
    "FromPlatformFlagConstDisallowed": ("linux/amd64",),
    "CopyIgnoredFile": ("Copy", "tests/data"),
    "InvalidDefinitionDescription": ("ARG", "TAG"),
    "ExposeProtoCasing": ("53/UDP",),
    "ExposeInvalidFormat": ("127.0.0.1:8080:80",),
}
"""What fills the message for the first example of the page."""


def pages() -> dict[str, str]:
    """The content of each file, by its name."""
    rows = "\n".join(f"| [{rule.name}]({rule.page}.md){_mark(rule)} | {rule.description} |" for rule in RULES.values())
    return {"README.md": _INDEX.format(rows=rows)} | {f"{rule.page}.md": _page(rule) for rule in RULES.values()}


def _page(rule: Rule) -> str:
    return _PAGE.format(
        name=rule.name,
        description=rule.description.rstrip(".") + ".",
        experimental=_EXPERIMENTAL if rule.experimental else "",
        message=rule.message(*_EXAMPLES.get(rule.name, ())),
        text=_dedented(rule.message.__doc__ or ""),
    )


def _mark(rule: Rule) -> str:
    return " (experimental)" if rule.experimental else ""


def _dedented(doc: str) -> str:
    first, _, rest = doc.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}".rstrip() + "\n"
