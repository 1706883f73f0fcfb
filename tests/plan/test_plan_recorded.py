"""What an image says of its build: canonical, whole, and believed only as it was written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.plan.recorded import LIMIT, BuildRequest, Difference, differences, dump, parse
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/plan"
KNOWN = BuildRequest(
    version="0.1.0",
    dockerfile=f"sha256:{'1' * 64}",
    path="docker/Dockerfile",
    target="final",
    args=(("A", "1"), ("B", 'b "ü"\n')),
    withheld=("TOKEN_URL",),
    labels=(("org.example.x", ""),),
    platform="linux/arm64/v8",
    epoch=1700000000,
    network="none",
    hosts=(("db", "10.0.0.1"),),
    shm_size=64 << 20,
    ulimits=(("nofile", 1024, -1),),
    contexts=("other",),
    bases=(("debian:12", f"sha256:{'2' * 64}"), ("scratch", "")),
    contents=((3, "COPY . /app", f"sha256:{'3' * 64}"), (4, "ADD https://example.com/x /", f"sha256:{'4' * 64}")),
    files=((f"sha256:{'3' * 64}", (("app/", "5" * 16), ("main.py", "6" * 16))),),
)
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=20)
PATHS = TEXTS.filter(lambda path: not path.startswith("/") and ".." not in path.split("/"))
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)
REQUESTS = st.builds(
    BuildRequest,
    *(TEXTS, TEXTS, PATHS, TEXTS, PAIRS, st.lists(TEXTS, max_size=3).map(tuple), PAIRS, TEXTS),
    st.none() | st.integers(0, 1 << 40),
    *(st.sampled_from(["default", "host", "none"]), PAIRS, st.integers(0, 1 << 40)),
    st.lists(st.tuples(TEXTS, st.integers(-1, 9), st.integers(-1, 9)), max_size=2).map(tuple),
    *(st.lists(TEXTS, max_size=3).map(tuple), PAIRS),
    st.lists(st.tuples(st.integers(0, 9), TEXTS, TEXTS), max_size=3).map(tuple),
    st.none() | st.lists(st.tuples(TEXTS, PAIRS), max_size=2).map(tuple),
)


def test_the_bytes_of_version_1() -> None:
    """What images that were built before say of themselves is read for ever."""
    old = KNOWN._replace(files=None)
    assert dump(old) + "\n" == (GOLDEN / "request-v1.json").read_text()
    assert old.digest == "sha256:725f093fc8c24e1f20f3a3886e0a298dd69c9d3c227d15a77afc5213f09e44f1"
    assert differences(old, KNOWN) == ()


def test_the_bytes_of_version_2() -> None:
    assert dump(KNOWN) + "\n" == (GOLDEN / "request-v2.json").read_text()
    assert KNOWN.digest == "sha256:006dcc6489f60aa7cbf32bb08cad4c086381cb39499450fc63d69a0e71277047"


@given(REQUESTS)
def test_what_is_written_is_read(request: BuildRequest) -> None:
    assert parse(dump(request)) == request


@given(
    st.text()
    | st.recursive(st.none() | st.integers() | TEXTS, lambda x: st.lists(x) | st.dictionaries(TEXTS, x)).map(json.dumps)
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it(s)? "):
        parse(text)


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(dump(KNOWN)), **fields}, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (changed(format=3), "it has the format 3, and this pybuild knows 2"),
        (changed(format=0), "it has the format 0, and this pybuild knows 2"),
        (changed(format=1), "it is not what pybuild writes: it was changed"),
        (changed(files=[["a", [["b"]]]]), "its 'files' is damaged"),
        (changed(files=[["a", "b"]]), "its 'files' is damaged"),
        (changed(root=f"sha256:{'5' * 64}"), "it is not what pybuild writes: it was changed"),
        (changed(more=1), "it is not what pybuild writes: it was changed"),
        (dump(KNOWN) + " ", "it is not what pybuild writes: it was changed"),
        (changed(target=None), "its 'target' is no text"),
        (changed(shm_size=True), "its 'shm_size' is no number"),
        (changed(epoch=-1), "its 'epoch' is no number"),
        (changed(args={}), "its 'args' is no list"),
        (changed(args=[["A"]]), "its 'args' is damaged"),
        (changed(contents=[[True, "a", "b"]]), "its 'contents' is damaged"),
        (changed(withheld=[1]), "its 'withheld' is damaged"),
        ("[" * 100000, "it is no JSON"),
        (" " * (LIMIT + 1), f"it is longer than {LIMIT} characters"),
        ("{}", "it has no format"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, told: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == told


def test_what_another_request_has_in_another_way() -> None:
    assert differences(KNOWN, KNOWN) == ()
    now = KNOWN._replace(
        version="0.2.0",
        args=(("A", "2"),),
        epoch=None,
        bases=(("debian:12", "sha256:new"), ("scratch", "")),
        contents=((3, "COPY . /app", "sha256:new"), KNOWN.contents[1]),
    )
    assert differences(KNOWN, now) == (
        Difference("content", "line 3, COPY . /app: other files"),
        Difference("base", f"debian:12 is another image now: it was sha256:{'2' * 64}"),
        Difference("flag", '--build-arg: A=1, B=b "ü"\n then, A=2 now'),
        Difference("flag", "SOURCE_DATE_EPOCH: 1700000000 then, none now"),
        Difference("version", "it was built by pybuild 0.1.0, this is 0.2.0"),
    )
    # Lines of another text are other lines.
    now = KNOWN._replace(dockerfile="sha256:other", contents=((2, "COPY a /", "sha256:new"),))
    assert differences(KNOWN, now) == (
        Difference("dockerfile", "the Dockerfile has another text"),
        Difference("content", "other files are taken from the context"),
    )
    # An instruction that is there as it was is found on its new line.
    now = KNOWN._replace(dockerfile="sha256:other", contents=((2, "COPY . /app", "sha256:new"),))
    assert differences(KNOWN, now)[1:] == (Difference("content", "line 3, COPY . /app: other files"),)


def test_the_files_that_differ() -> None:
    now = KNOWN._replace(
        contents=((3, "COPY . /app", "sha256:new"), KNOWN.contents[1]),
        files=(("sha256:new", (("app/", "7" * 16), ("new", "0" * 16))),),
    )
    files = (("app/", "changed"), ("main.py", "removed"), ("new", "added"))
    assert differences(KNOWN, now) == (Difference("content", "line 3, COPY . /app: other files", files),)
