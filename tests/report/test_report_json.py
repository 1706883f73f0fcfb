"""The JSON stream: whole outputs, and docs/events.md compared with the code."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import SourceFile, Span, StepError, UsageError
from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    BuildWarning,
    CacheImported,
    Debug,
    Event,
    ExportFinished,
    Notice,
    PlanReady,
    SandboxChosen,
    StepExplained,
    StepFinished,
    StepLog,
    StepStarted,
    StepUsage,
    Transfer,
)
from builder.report.json import Json, describe

DOCS = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "events.md")
ERROR = StepError(
    "it failed", Span(2, 5, 2, 8), source=SourceFile("Dockerfile", "FROM a\nRUN x\n"), hint="fix it", code=3, tail=("a", "b")
)
SAMPLES: tuple[Event, ...] = (
    BuildStarted("Dockerfile", ".", ""),
    PlanReady(2),
    StepStarted(1, "[1/2] RUN é", 2),
    StepLog(1, b"text\n"),
    StepLog(1, b"\xff"),
    StepExplained(1, "[1/2] RUN é", 0, (("command", "command: a -> b", 0), ("before", "the step before: é", 1))),
    StepExplained(2, "n", 3, (("never-built", "never built", 0),)),
    StepFinished(1, "[1/2] RUN é", 0, "done", 0.1239, "sha256:aa", 7, "bb"),
    StepFinished(2, "n", 3, "cached", 0.0, "", 0),
    BuildWarning("Code", "message", 4, 2, "Dockerfile"),
    BuildWarning("Code", "message"),
    Debug("why"),
    ExportFinished("out.tar", "sha256:bb", 10, 1.0),
    ExportFinished("out", "", 10, 1.0),
    BuildFinished("sha256:cc", ("a", "b"), 7, 1, 1, 1, ("test",), 2.0),
    BuildFinished("sha256:dd", (), 7, 1, 1, 1, (), 2.0, ("linux/amd64", "linux/arm64")),
    BuildFailed(ERROR, 1.5),
    BuildFailed(UsageError("no"), 0.0),
    CacheImported("cache local dir", 3, 500),
    Notice("fetching"),
    SandboxChosen("userns", "a user namespace"),
    Transfer("pulling a", 1, 2),
    StepUsage(1, 0.1239, 1 << 20, "pasta", "userns"),
)


def stream(*script: tuple[float, Event]) -> str:
    out: list[str] = []
    reader = Json(out.append)
    for now, event in script:
        reader.handle(event, now)
    reader.close(script[-1][0])
    return "".join(out)


def test_a_failed_build() -> None:
    text = stream(
        (100.0, BuildStarted("Dockerfile", "ctx", "build")),
        (100.0, PlanReady(1)),
        (100.5, StepStarted(1, "[1/1] RUN é", 2)),
        (100.6126, StepLog(1, b"caf\xc3")),
        (100.7, StepLog(1, b"\xa9\n\x1b[0m")),
        (100.8, StepLog(1, b"\xff")),
        (100.9, StepLog(1, b"\xe2\x82")),
        (101.0, StepFinished(1, "[1/1] RUN é", 2, "failed", 0.5, "", 0)),
        (101.0, BuildFailed(ERROR, 1.0)),
    )
    assert (
        text
        == r"""{"v":1,"type":"build.started","at":0.0,"dockerfile":"Dockerfile","context":"ctx","target":"build"}
{"v":1,"type":"plan.ready","at":0.0,"steps":1}
{"v":1,"type":"step.started","at":0.5,"step":1,"name":"[1/1] RUN \u00e9","line":2}
{"v":1,"type":"step.log","at":0.613,"step":1,"text":"caf"}
{"v":1,"type":"step.log","at":0.7,"step":1,"text":"\u00e9\n\u001b[0m"}
{"v":1,"type":"step.log","at":0.8,"step":1,"base64":"/w=="}
{"v":1,"type":"step.log","at":1.0,"step":1,"base64":"4oI="}
{"v":1,"type":"step.finished","at":1.0,"step":1,"name":"[1/1] RUN \u00e9","line":2,"status":"failed","seconds":0.5,"diff_id":null,"size":0,"key":null}
{"v":1,"type":"build.failed","at":1.0,"error":{"message":"it failed","file":"Dockerfile","line":2,"column":5,"hint":"fix it","exit_code":1,"code":3,"tail":["a","b"],"cancelled":[]},"seconds":1.0}
"""  # noqa: E501 - one object a line is the format
    )


def test_a_finished_build_and_an_error_without_a_place() -> None:
    text = stream((0.0, SAMPLES[14]), (0.0, SAMPLES[15]), (0.0, SAMPLES[12]), (0.0, SAMPLES[17]))
    assert (
        text
        == """{"v":1,"type":"build.finished","at":0.0,"image_id":"sha256:cc","names":["a","b"],"size":7,"layers":1,"ran":1,"cached":1,"skipped":["test"],"seconds":2.0}
{"v":1,"type":"build.finished","at":0.0,"image_id":"sha256:dd","names":[],"size":7,"layers":1,"ran":1,"cached":1,"skipped":[],"seconds":2.0,"platforms":["linux/amd64","linux/arm64"]}
{"v":1,"type":"export.finished","at":0.0,"output":"out.tar","digest":"sha256:bb","size":10,"seconds":1.0}
{"v":1,"type":"build.failed","at":0.0,"error":{"message":"no","file":null,"line":null,"column":null,"hint":null,"exit_code":2,"code":null,"tail":[],"cancelled":[]},"seconds":0.0}
"""  # noqa: E501 - one object a line is the format
    )


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=6)))
def test_a_log_comes_back_byte_for_byte(chunks: list[bytes]) -> None:
    lines = [json.loads(line) for line in stream(*((0.0, StepLog(1, chunk)) for chunk in [*chunks, b""])).splitlines()]
    back = [line["text"].encode() if "text" in line else base64.b64decode(line["base64"]) for line in lines]
    assert b"".join(back) == b"".join(chunks)


@settings(max_examples=100)
@given(st.text(), st.integers(1, 4))
def test_utf_8_is_always_text_wherever_it_is_cut(text: str, length: int) -> None:
    data = text.encode(errors="replace")
    chunks = [data[i : i + length] for i in range(0, len(data), length)]
    lines = [json.loads(line) for line in stream(*((0.0, StepLog(1, chunk)) for chunk in [*chunks, b""])).splitlines()]
    assert "".join(line["text"] for line in lines) == data.decode()


@settings(max_examples=100)
@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_name_gives_one_line_of_clean_ascii(name: str) -> None:
    text = stream((0.0, StepStarted(1, name, 1)))
    assert text.isascii() and text.count("\n") == 1 and text.endswith("\n")
    json.loads(text)["name"].encode()  # raises for a surrogate


def documented() -> dict[str, dict[str, str]]:
    """{type: {field: its type}} of docs/events.md; "" for the fields of every object."""
    with open(DOCS, encoding="utf-8") as file:
        text = file.read()
    tables: dict[str, dict[str, str]] = {}
    for section in re.split(r"^##+ ", "`` \n" + text, flags=re.MULTILINE):
        name = section.split("`")[1]
        tables[name] = dict(re.findall(r"^\| `(\w+)` \| ([a-z ,]+?) \|", section, re.MULTILINE))
    return tables


CHECKS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "string, optional": (str,),
    "string or null": (str, type(None)),
    "integer or null": (int, type(None)),
    "array of strings": (list,),
    "array of strings, optional": (list,),
    "array of objects": (list,),
    "object": (dict,),
}


def assert_documented(fields: dict[str, Any], table: dict[str, str], where: str) -> None:
    required = {name for name, kind in table.items() if "optional" not in kind}
    assert required <= set(fields) <= set(table), where
    for name, value in fields.items():
        assert isinstance(value, CHECKS[table[name]]), (where, name, value)


def test_the_samples_have_every_event() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Event))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_the_docs_have_every_field(sample: Event) -> None:
    name, fields = describe(sample)
    assert_documented(dict(fields), documented()[name], name)
    line = json.loads(stream((0.0, sample)))
    assert_documented({key: line[key] for key in line if key not in fields}, documented()[""], "every object")
    if name == "step.explained":
        for reason in line["reasons"]:
            assert_documented(reason, documented()["reasons"], "reasons")
    if name == "build.failed":
        assert_documented(line["error"], documented()["error"], "error")


def test_the_docs_have_no_other_types() -> None:
    assert set(documented()) == {"", "error", "reasons"} | {describe(sample)[0] for sample in SAMPLES}


def test_nullable_fields_are_seen_as_null_and_as_a_value() -> None:
    seen: dict[tuple[str, str], set[bool]] = {}
    for sample in SAMPLES:
        name, fields = describe(sample)
        for table, values in [(name, fields), ("error", fields.get("error"))]:
            if isinstance(values, dict):
                for field, value in values.items():
                    seen.setdefault((table, field), set()).add(value is None)
        for reason in sample.reasons if isinstance(sample, StepExplained) else ():
            seen.setdefault(("reasons", "step"), set()).add(not reason[2])
    nullable = {(name, field) for name, table in documented().items() for field, kind in table.items() if "null" in kind}
    assert nullable - {("step.started", "line")} == {key for key, nulls in seen.items() if nulls == {True, False}}
