"""Which changes of a Dockerfile change which keys: from the text to the key, without a store.

What each field does, and the bytes, are in tests/test_golden_keys.py.
"""

from __future__ import annotations

import json

import pytest

from builder.oci.digest import Digest
from builder.plan import keys
from builder.plan.state import Settings
from builder.plan.steps import CopyStep, Plan, RunStep, WorkdirStep
from tests.plan.plan_lowered import AMD64, SETTINGS, plan_of

ROOT = Digest("sha256", "a" * 64)


def all_keys(plan: Plan) -> list[str]:
    """Of each step, as if all had the same file system below and the same content."""
    out = []
    for step in plan.steps:
        match step:
            case RunStep():
                out.append(keys.run_key(step, ROOT, plan.platform, "root").hex)
            case CopyStep():
                out.append(keys.copy_key(step, ROOT, "content").hex)
            case WorkdirStep():
                out.append(keys.workdir_key(step, ROOT).hex)
            case _:
                pass
    return out


def same(one: str, two: str, settings: Settings = SETTINGS, other: Settings | None = None) -> list[bool]:
    left, right = all_keys(plan_of(one, settings=settings)), all_keys(plan_of(two, settings=other or settings))
    return [a == b for a, b in zip(left, right, strict=True)]


TEXT = "FROM base AS a\nENV E=1\nRUN one\nWORKDIR /w\nCOPY --chown=u x y\n"


@pytest.mark.parametrize(
    "other",
    [
        f"# comment\n\n\n{TEXT}",
        TEXT.replace("AS a", "AS other"),
        TEXT.replace("FROM base", "FROM another"),
        TEXT.replace("RUN one", "RUN \\\n one"),
        TEXT.replace(
            "RUN one", "LABEL a=1\nEXPOSE 80\nVOLUME /v\nCMD x\nENTRYPOINT y\nHEALTHCHECK CMD z\nMAINTAINER m\nRUN one"
        ),
        TEXT.replace("RUN one", "ARG UNSET\nRUN one"),
        TEXT.replace("RUN one", "STOPSIGNAL 9\nRUN --network=default --security=sandbox one"),
        TEXT.replace("RUN one", 'RUN ["/bin/sh", "-c", "one"]'),
        TEXT.replace("RUN one", 'SHELL ["/bin/sh", "-c"]\nRUN one'),
        TEXT.replace("x y", "x /w/y").replace("--chown=u", "--chown=u --link=false"),
        "FROM scratch\nRUN other\n" + TEXT,
    ],
)
def test_what_changes_nothing_that_a_step_sees(other: str) -> None:
    assert same(TEXT, other) == [True, True, True]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (TEXT.replace("one", "two"), [False, True, True]),
        (TEXT.replace("E=1", "E=2"), [False, True, True]),
        (TEXT.replace("ENV E=1", "ARG A=1\nENV E=1"), [False, True, True]),
        (TEXT.replace("ENV E=1", "USER u\nENV E=1"), [False, False, True]),
        (TEXT.replace("/w", "/v"), [True, False, False]),
        (TEXT.replace("=u", "=v"), [True, True, False]),
        (TEXT.replace("COPY", "ADD"), [True, True, False]),
        (TEXT.replace("COPY", "ADD --unpack=false"), [True, True, True]),
        (TEXT.replace("x y", "x y/"), [True, True, False]),
        (TEXT.replace("RUN", 'SHELL ["/bin/bash", "-c"]\nRUN'), [False, True, True]),
        (TEXT.replace("RUN", "RUN --network=none"), [False, True, True]),
    ],
)
def test_what_changes_one_step(other: str, expected: list[bool]) -> None:
    assert same(TEXT, other) == expected


def test_settings_in_keys() -> None:
    def change(**values: object) -> list[bool]:
        return same(TEXT, TEXT, SETTINGS, SETTINGS._replace(**values))  # type: ignore[arg-type]  # names of fields

    assert change(labels=(("a", "b"),)) == [True, True, True]
    assert change(build_args={"UNUSED": "1", "HTTP_PROXY": "x"}) == [True, True, True]
    assert change(directories=("unused",)) == [True, True, True]
    assert change(epoch=1) == [False, True, True]
    assert change(network="none") == [False, True, True]
    assert change(hosts=(("h", "1.1.1.1"),)) == [False, True, True]
    assert change(shm_size=1) == [False, True, True]
    assert change(build_args={"BUILDKIT_SANDBOX_HOSTNAME": "h"}) == [False, True, True]


def test_an_arg_is_in_the_keys_of_the_runs_after_it_alone() -> None:
    text = "FROM base\nRUN one\nARG A\nRUN two\n"
    assert same(text, text, SETTINGS._replace(build_args={"A": "1"}), SETTINGS._replace(build_args={"A": "2"})) == [True, False]


def test_a_declared_proxy_is_in_the_key() -> None:
    one, two = (SETTINGS._replace(build_args={"https_proxy": value}) for value in ("a", "b"))
    text = "FROM base\nRUN one\nARG https_proxy\nRUN two\n"
    assert same(text, text, one, two) == [True, False]


def test_the_preimage_is_canonical_json_of_what_is_hashed() -> None:
    step = next(step for step in plan_of(TEXT).steps if isinstance(step, RunStep))
    key = keys.run_key(step, ROOT, AMD64, "root")
    body = json.loads(key.preimage)
    assert json.dumps(body, sort_keys=True, separators=(",", ":")).encode() == key.preimage
    assert sorted(body) == [
        *("argv", "cwd", "env", "hostname", "hosts", "mounts", "network", "op", "platform", "root", "rung"),
        *("security", "shm_size", "user"),
    ]
