"""What nobody writes by hand: texts near valid Dockerfiles, and texts that are large where a Dockerfile is small. Each ends in
a plan or in an error, soon, and in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.syntax import KEYWORDS
from builder.dockerfile.text import decode
from builder.errors import BuildError, DockerfileError, SourceFile, UsageError, render
from builder.plan.document import document
from tests.conftest import ROOT
from tests.plan.plan_lowered import SETTINGS, plan_of

REAL = [
    *((ROOT / "sample_projects" / name / "Dockerfile").read_text() for name in ("hello", "web", "vertx")),
    (ROOT / "tests" / "golden" / "call" / "Dockerfile").read_text(),
    (ROOT / "tests" / "golden" / "document" / "stages.Dockerfile").read_text(),
    '''# escape=`
ARG TAG=3
FROM --platform=$BUILDPLATFORM alpine:${TAG:-latest} AS build
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
ENV PATH="/opt/bin:$PATH" GREETING='hello world' `
    LANG=C.UTF-8
LABEL "com.example.vendor"="ACME `"Inc`"" version=1.0
ADD --chown=app:app https://example.com/x.tgz /x/
COPY ["a b", "c", "/d/"]
RUN --mount=type=cache,target=/c,sharing=locked --network=none make -j"$(nproc)"
HEALTHCHECK --interval=1m30s --retries=3 CMD ["curl", "-f", "http://localhost/"]
EXPOSE 80/tcp 443 8000-8010/udp
VOLUME /data /log
STOPSIGNAL SIGTERM
ONBUILD RUN make
USER 1000:1000
WORKDIR /srv/${GREETING%% *}
FROM scratch
COPY --from=build --chmod=0755 --link /x /x
COPY <<EOF /etc/motd
${GREETING:-hello}
EOF
CMD echo $PATH
''',
]  # fmt: skip
PIECES = [
    *(f"{keyword} " for keyword in KEYWORDS),
    "$", "${", "}", "${A:-", "${A#", "${A/", "'", '"', "\\", "`", "\\\n", "\n", "[", "]", '["', '"]', ",", "=", " ", "\t", "\r",
    "#", "<<", "<<EOF", "\nEOF\n", "--", "--from=", "--mount=type=", "--chown=", " AS ", "0", "-1", "/", "../", "*", "?", ":",
    "@sha256:", "\u00a0", "é", "한", "\ufeff", "# escape=`\n", "ONBUILD ONBUILD ", "scratch",
]  # fmt: skip
"""What to put into a text: what means something somewhere."""

_PLACE = st.floats(0, 1, exclude_max=True)
_EDIT = st.one_of(
    st.tuples(st.just("insert"), _PLACE, st.sampled_from(PIECES)),
    st.tuples(st.just("delete"), _PLACE, st.integers(1, 40)),
    st.tuples(st.just("repeat"), _PLACE, st.integers(1, 200)),
    st.tuples(st.just("replace"), _PLACE, st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.tuples(st.just("swap"), _PLACE, st.integers(1, 5)),
)


def edited(text: str, edits: list[tuple[str, float, object]]) -> str:
    for how, place, what in edits:
        at = int(place * len(text))
        match how, what:
            case "insert", str(piece):
                text = text[:at] + piece + text[at:]
            case "delete", int(count):
                text = text[:at] + text[at + count :]
            case "repeat", int(count):
                text = text[: at + count] + text[at:]
            case "replace", str(char):
                text = text[:at] + char + text[at + 1 :]
            case "swap", int(count):
                lines = text.split("\n")
                first = int(place * len(lines))
                lines[first : first + 2 * count] = [*lines[first + count : first + 2 * count], *lines[first : first + count]]
                text = "\n".join(lines)
    return text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(REAL), st.lists(_EDIT, min_size=1, max_size=6))
def test_a_text_near_a_dockerfile_is_a_plan_or_an_error(text: str, edits: list[tuple[str, float, object]]) -> None:
    text = edited(text, edits)
    source = SourceFile("Dockerfile", text)
    try:
        plan = plan_of(text)
    except (DockerfileError, UsageError) as error:
        shown = render(error.at(source) if error.span else error)
        assert shown.startswith("Dockerfile:") or isinstance(error, UsageError)
        if error.span is not None:
            assert 1 <= error.span.line <= text.count("\n") + 1
            assert error.span.column >= 1
    else:
        assert all(needed < step["id"] for step in document([plan], "Dockerfile")["steps"] for needed in step["needs"])


@pytest.mark.parametrize("text", REAL)
def test_the_texts_themselves_are_read(text: str) -> None:
    """The control of the test above: what is edited was a Dockerfile."""
    plan_of(text)


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_plan_or_an_error(data: bytes) -> None:
    with pytest.raises(DockerfileError):
        # Comments may hold anything.
        plan_of(decode("Dockerfile", b"FROM base\n" + data + b"\nRUN \xff").text)
    try:
        plan_of(decode("Dockerfile", b"FROM base\n" + data).text)
    except BuildError as error:
        assert isinstance(error, DockerfileError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base\nRUN a\0b\n", "this is not a text file: there is a NUL character"),
        ('FROM base\nRUN ["a\\u0000"]\n', "an argument can not hold a NUL character"),
        ("FROM base\nENV A\n", "ENV must have two arguments"),
        ("FROM base\nENV =x\n", "ENV names can not be blank"),
        ('FROM base\nENV ""=x\n', "ENV has an empty argument: '\"\"' expands to nothing"),
        ("FROM base\nARG =x\n", "ARG names can not be blank"),
        ("FROM base AS\n", "FROM requires either one or three arguments"),
        ('FROM base AS ""\n', "'\"\"' is not a name for a stage"),
        ('FROM ""\n', "the base name '\"\"' expands to nothing"),
        ('FROM base\nCOPY "" /\n', "COPY has an empty argument: '\"\"' expands to nothing"),
        ('FROM base\nCOPY ["", "/"]\n', "COPY has an empty argument: '' expands to nothing"),
        ("FROM base\nCOPY --chmod=888 a b\n", "'888' is not a mode"),
        ("FROM base\nCOPY --chmod=77777 a b\n", "'77777' is not a mode"),
        ("FROM base\nEXPOSE 65536\n", "'65536' is not a port"),
        ("FROM base\nEXPOSE 80/\n", None),
        ("FROM base\nWORKDIR --flag /x\n", "unknown flag '--flag': WORKDIR has no flags"),
        ("FROM base\nENV --x a=b\n", "unknown flag '--x': ENV has no flags"),
        ("FROM base\nLABEL --x a=b\n", "unknown flag '--x': LABEL has no flags"),
        ("FROM base\nUSER --x a\n", "unknown flag '--x': USER has no flags"),
        ("FROM base\nEXPOSE --x 1\n", "unknown flag '--x': EXPOSE has no flags"),
        ("FROM base\nVOLUME --x /v\n", "unknown flag '--x': VOLUME has no flags"),
        ("FROM base\nCMD --x a\n", "unknown flag '--x': CMD has no flags"),
        ("FROM base\nENTRYPOINT --x a\n", "unknown flag '--x': ENTRYPOINT has no flags"),
        ('FROM base\nSHELL --x ["a"]\n', "unknown flag '--x': SHELL has no flags"),
        ("FROM base\nSTOPSIGNAL --x 9\n", "unknown flag '--x': STOPSIGNAL has no flags"),
        ("FROM base\nMAINTAINER --x me\n", "unknown flag '--x': MAINTAINER has no flags"),
        ("FROM base\nONBUILD --x RUN a\n", "unknown flag '--x': ONBUILD has no flags"),
        ("FROM base\nARG --x a\n", "unknown flag '--x': ARG has no flags"),
        ("FROM base\nCOPY --link --link a b\n", "the flag '--link' stands here twice"),
        ("FROM base\nCOPY --from=1 a b\n", "there is no stage 1"),
        ("FROM base\nCOPY --from=0 a b\n", "COPY --from=0 copies from its own stage"),
        ('FROM base\nRUN ["a", {"b": 1}]\n', "a JSON array of arguments holds strings only"),
        ('FROM base\nCOPY ["a", null]\n', "a JSON array of arguments holds strings only"),
        ("FROM base\nVOLUME [1]\n", "a JSON array of arguments holds strings only"),
        ("FROM base\nCOPY <<EOF /x\nEOF \n", "the heredoc 'EOF' has no end"),
        ("# syntax=tonistiigi/copy\nFROM base\n", None),
    ],
)
def test_bad_input(text: str, message: str | None) -> None:
    if message is None and "EXPOSE" in text:
        # An empty protocol is tcp.
        assert plan_of(text).config.exposed == {"80/tcp"}
        return
    with pytest.raises(DockerfileError) as caught:
        plan_of(text)
    assert caught.value.message == (message or caught.value.message)


LARGE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from builder.dockerfile.text import decode
from builder.errors import DockerfileError
from tests.plan.plan_lowered import plan_of
try:
    plan = plan_of(decode("Dockerfile", eval(sys.argv[1]).encode()).text)
except DockerfileError as error:
    print(error.message[:60])
else:
    print("plan", len(plan.steps), len(plan.history))
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'FROM base\\nRUN ' + 'x' * 10_000_000", "the Dockerfile is larger than 2 MiB"),
        ("'FROM base\\nRUN ' + 'x' * 2_000_000", "plan 2 1"),
        ("'FROM base\\nENV A=' + '\"$B\"' * 400_000", "plan 1 1"),
        ("'A\\n' * 1_000_000", "the Dockerfile has more than 50000 instructions"),
        ("'FROM base\\n' + 'USER u\\n' * 20_000", "plan 1 20000"),
        ("'FROM base\\n' + ''.join(f'ENV A{n}=$A{n - 1}\\n' for n in range(15_000))", "plan 1 15000"),
        (
            "'FROM base\\n' + ''.join(f'ENV A{n}=1\\nRUN x\\n' for n in range(10_000))",
            "the Dockerfile is too large to be planned",
        ),
        ("'FROM base\\nENV A=' + '${A:-' * 300_000 + '}' * 300_000", "variables stand in each other more than 64 levels deep"),
        ("'FROM base\\nENV A=xxxx\\n' + 'ENV A=$A$A\\n' * 100", "the word expands to more than 4194304 characters"),
        ("'FROM base\\nRUN ' + '[' * 1_000_000", "a JSON array of arguments holds strings only"),
        ("'FROM base\\nRUN a' + ' \\\\\\n' * 500_000 + 'b'", "plan 2 1"),
    ],
)
def test_large_texts_take_bounded_time_and_memory(text: str, said: str) -> None:
    """A gibibyte of address space; the time is far more than what is needed."""
    done = subprocess.run([sys.executable, "-c", LARGE, text], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.strip().startswith(said)


def test_settings_are_not_trusted_either() -> None:
    settings = SETTINGS._replace(build_args={"A": "$(x)`y`${z\"'\\"})
    assert dict(plan_of("FROM base\nARG A\nLABEL l=$A\n", settings=settings).config.labels) == {"l": "$(x)`y`${z\"'\\"}
