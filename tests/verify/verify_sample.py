"""docs/reproducible.md: made of the sample's Dockerfiles and of what `pybuild verify` says of them."""

from __future__ import annotations

import re

from tests.conftest import ROOT

SAMPLE = ROOT / "sample_projects/reproducible"
PAGE = ROOT / "docs/reproducible.md"
MENDED = {
    3: "What apt and dpkg keep of the installation goes in the same RUN.",
    8: "The compiled files hold the times of their sources, which another checkout does not have. By hash, they hold none.",
    9: "Sorted, the list is the same on every file system.",
    10: "The time of the build says nothing of the source. `$SOURCE_DATE_EPOCH` does, where a release sets it.",
    11: "An id that shall be another one in each container is made when the container starts.",
    12: "A password in an image is no secret, and its hash has a salt by chance: none is set.",
}
"""What is done about each line of the first Dockerfile that differs."""


def told(text: str) -> dict[int, str]:
    """What is said of each step that differs, by its line; with what is another each time left out."""
    found: dict[int, str] = {}
    number = 0
    for line in text.splitlines():
        head = re.match(r"([=!?~]) Dockerfile\.before:(\d+): ", line)
        if head:
            number = int(head[2]) if head[1] == "!" else 0
        elif not line.startswith(" "):
            number = 0
        if number:
            found[number] = found.get(number, "") + _settled(line) + "\n"
    return found


def _settled(line: str) -> str:
    """Times and ids as they stand in the page: two that differ stay two."""
    for pattern, one, other in (
        (
            r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d (?:UTC )?\d{4}",
            "Thu Nov 26 16:38:59 UTC 2026",
            "Thu Nov 26 16:39:06 UTC 2026",
        ),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "b583aed3-8880-4a2c-b222-a6e2219dab66",
            "a99abdbd-cf94-4e13-a8e0-54895c903532",
        ),
        (r"(?<=pyc-time: )\d+|(?<= -> )\d+", "1795711138", "1795451933"),
    ):
        found = re.findall(pattern, line)
        if len(set(found)) == 2:
            line = line.replace(found[0], one).replace(found[1], other)
    return line


def walk(said: dict[int, str]) -> str:
    return "".join(f"```\n{said[line]}```\n\n{text}\n\n" for line, text in MENDED.items())
