"""`RUN --mount` as values: the keys, aliases and defaults of BuildKit (moby/buildkit, instructions/commands_runmount.go and
dockerfile2llb/convert_runmount.go, convert_secrets.go, convert_ssh.go; reference, "RUN --mount")."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.dockerfile.ast import Flag
from builder.dockerfile.checks.warning import Warn
from builder.errors import DockerfileError, Span
from builder.plan.mountflags import split
from builder.plan.mounts import BindMount, CacheMount, Mount, SecretMount, SshMount, TmpfsMount
from builder.plan.steps import ContextOrigin, RunStep, StageOrigin, parents
from tests.plan.plan_lowered import SETTINGS, plan_of, stages_of

HERE = Span(0, 0, 0, 0)
MAIN = ContextOrigin("")


def mounts(flags: str, before: str = "") -> tuple[Mount, ...]:
    """The mounts of `RUN {flags} x` after the lines `before`, without their places."""
    step = plan_of(f"FROM base AS other\nFROM base\n{before}RUN {flags} x\n").steps[-1]
    assert isinstance(step, RunStep)
    return tuple(mount._replace(span=HERE) for mount in step.mounts)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # bind is the default, and read-only
        ("target=/c", BindMount("/c", MAIN, "/", True, HERE)),
        ("type=bind,dst=/c,src=a/../b", BindMount("/c", MAIN, "/b", True, HERE)),
        ("TYPE=Bind,Destination=/c/,SOURCE=/x,rw", BindMount("/c", MAIN, "/x", False, HERE)),
        ("target=/c,ro=false", BindMount("/c", MAIN, "/", False, HERE)),
        ("target=/c,readwrite=0", BindMount("/c", MAIN, "/", True, HERE)),
        ("target=/c,rw,readonly", BindMount("/c", MAIN, "/", True, HERE)),
        ("target=c", BindMount("/w/c", MAIN, "/", True, HERE)),
        ("source=x", BindMount("/w", MAIN, "/x", True, HERE)),
        ("target=../c,source=../../x", BindMount("/c", MAIN, "/x", True, HERE)),
        ("target=/c,from=Other", BindMount("/c", StageOrigin(0), "/", True, HERE)),
        ("target=/c,from=files,source=x", BindMount("/c", ContextOrigin("Files"), "/x", True, HERE)),
        ("target=/c,from=", BindMount("/c", MAIN, "/", True, HERE)),
        # cache
        ("type=cache,target=/c/../d", CacheMount("/d", "/d", "shared", None, "/", False, 0o755, 0, 0, HERE)),
        ("type=cache,target=c/./d", CacheMount("/w/c/d", "c/d", "shared", None, "/", False, 0o755, 0, 0, HERE)),
        (
            "type=cache,id=a,target=/c,sharing=LOCKED,mode=0700,uid=1,gid=2,ro,from=other,source=s",
            CacheMount("/c", "a", "locked", StageOrigin(0), "/s", True, 0o700, 1, 2, HERE),
        ),
        # tmpfs
        ("type=tmpfs,target=/t", TmpfsMount("/t", 0, False, HERE)),
        ("type=tmpfs,target=/t,size=10", TmpfsMount("/t", 10, False, HERE)),
        ("type=tmpfs,target=/t,size=1.5k", TmpfsMount("/t", 1536, False, HERE)),
        ("type=tmpfs,target=/t,size=2MiB", TmpfsMount("/t", 2 << 20, False, HERE)),
        ("type=tmpfs,target=/t,size=3GB", TmpfsMount("/t", 3 << 30, False, HERE)),
        # secret
        ("type=secret,id=a/b", SecretMount("/run/secrets/b", "a/b", "", False, 0o400, 0, 0, HERE)),
        ("type=secret,source=a", SecretMount("/run/secrets/a", "a", "", False, 0o400, 0, 0, HERE)),
        ("type=secret,target=/x/y", SecretMount("/x/y", "y", "", False, 0o400, 0, 0, HERE)),
        ("type=secret,id=a,target=y", SecretMount("/w/y", "a", "", False, 0o400, 0, 0, HERE)),
        ("type=secret,id=a,env=A", SecretMount("", "a", "A", False, 0o400, 0, 0, HERE)),
        ("type=secret,id=a,env=A,target=/x", SecretMount("/x", "a", "A", False, 0o400, 0, 0, HERE)),
        ("type=secret,id=a,required,uid=7,mode=440", SecretMount("/run/secrets/a", "a", "", True, 0o440, 7, 0, HERE)),
        ("type=secret,id=a,required=false", SecretMount("/run/secrets/a", "a", "", False, 0o400, 0, 0, HERE)),
        # ssh
        ("type=ssh", SshMount("/run/buildkit/ssh_agent.0", "default", False, 0o600, 0, 0, HERE)),
        ("type=ssh,id=k,target=/s,required=true,gid=9,mode=666", SshMount("/s", "k", True, 0o666, 0, 9, HERE)),
        # CSV: a quoted field holds commas, a doubled quote is one
        (r"\"target=/a,b\",source=c", BindMount("/a,b", MAIN, "/c", True, HERE)),
        (r"target=/c,\"source=x\"\"y\"\"z\"", BindMount("/c", MAIN, "/xyz", True, HERE)),
        # variables in every value but that of from
        ("type=$T,target=${D}/x,id=$D-$UNSET", CacheMount("/d/x", "/d-", "shared", None, "/", False, 0o755, 0, 0, HERE)),
    ],
)
def test_a_mount(value: str, expected: Mount) -> None:
    text = f"FROM base AS other\nFROM base\nWORKDIR /w\nARG T=cache\nENV D=/d\nRUN --mount={value} x\n"
    step = plan_of(text, settings=SETTINGS._replace(directories=("Files",))).steps[-1]
    assert isinstance(step, RunStep)
    (mount,) = step.mounts
    assert mount._replace(span=HERE) == expected
    assert mount.span == Span(6, 5, 6, 13 + len(value))


def test_several_mounts_in_order() -> None:
    found = mounts("--mount=type=ssh --mount=type=tmpfs,target=/t --mount=type=ssh,id=b")
    assert [mount.target for mount in found] == ["/run/buildkit/ssh_agent.0", "/t", "/run/buildkit/ssh_agent.1"]


def test_a_stage_or_an_image_that_a_mount_names_is_needed() -> None:
    text = (
        "FROM one AS a\nRUN x\nFROM two AS b\nRUN --mount=from=a,target=/a --mount=type=cache,from=img,target=/i y\n"
        "FROM three AS c\nRUN --mount=type=tmpfs,target=/t,from=b z\n"
    )
    stages = stages_of(text, "b")
    assert [external.name for external in stages.externals()] == ["one", "two", "img"]
    assert stages_of(text).needed == (0, 1, 2)
    plan = plan_of(text, "b")
    run = plan.steps[-1]
    assert isinstance(run, RunStep)
    assert [mount.origin for mount in run.mounts if isinstance(mount, BindMount | CacheMount)] == [
        StageOrigin(1),
        StageOrigin(3),
    ]
    assert parents(run) == (2, 1, 3)
    assert [step.name for step in plan.steps] == [
        "[a 1/2] FROM one",
        "[a 2/2] RUN x",
        "[b 1/2] FROM two",
        "[b 2/2] FROM img",
        "[b 2/2] RUN --mount=from=a,target=/a --mount=type=cache,from=img,target=/i y",
    ]
    # A later stage, as with COPY; a number is the name of an image, unlike with COPY.
    later = stages_of("FROM x AS a\nRUN --mount=from=b,target=/b y\nFROM z AS b\n", "a")
    assert later.needed == (1, 0)
    assert [external.name for external in stages_of("FROM x\nFROM y\nRUN --mount=from=0,target=/b z\n").externals()] == [
        "y",
        "0",
    ]


def test_keys_without_effect_are_warned_of() -> None:
    plan = plan_of("FROM base\nRUN --mount=target=/c,id=x,env=Y --mount=type=ssh,ro x\n")
    bind, ssh = Span(2, 5, 2, 33), Span(2, 34, 2, 53)
    assert plan.warnings == (
        Warn("RunMount", "RUN --mount: 'id' has no effect on a mount of type bind", bind),
        Warn("RunMount", "RUN --mount: 'env' has no effect on a mount of type bind", bind),
        Warn("RunMount", "RUN --mount: 'readonly' has no effect on a mount of type ssh", ssh),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "'' of --mount"),
        ("target=/c,", "unknown key '' of --mount"),
        ("type=cache,target=/c,sharing=private,foo", "unknown key 'foo' of --mount"),
        ("target=/c,ro=yes", "'ro' of --mount is true or false, not 'yes'"),
        ("type=cache,target=/c,sharing=none", "'none' is not a way of sharing"),
        ("target=/c,sharing=locked", "'sharing' is no key of a mount of type bind"),
        ("target=/c,size=1", "'size' is no key of a mount of type bind"),
        ("type=tmpfs,target=/c,mode=700", "'mode' is no key of a mount of type tmpfs"),
        ("type=cache,target=/c,required", "'required' is no key of a mount of type cache"),
        ("type=cache,target=/c,uid=-1", "'uid' of --mount is a number, 0 to 4294967294, not '-1'"),
        ("type=cache,target=/c,gid=4294967296", "'gid' of --mount is a number, 0 to 4294967294, not '4294967296'"),
        ("type=secret,id=a,source=b", "a secret has either 'id' or 'source'"),
        ("type=secret,id=a,from=base", "'from' is no key of a mount of type secret"),
        ("type=secret,id=a,sharing=shared", "'sharing' is no key of a mount of type secret"),
        ("type=secret,id=a,env=", "'env' names no variable"),
        ("type=ssh,source=a", "'source' is no key of a mount of type ssh"),
        ("type=cache", "nothing can be mounted at '/'"),
        ("type=,target=/c", "'' is not a type of mount"),
        ("target=/c,source=${A", "'${' is not closed"),
        (r"\"target=/c", "a quote of --mount is not closed"),
        (r"\"target=/c\"x", "a quoted field of --mount goes on after its quote"),
    ],
)
def test_refused(value: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan_of(f"FROM base\nRUN --mount={value} x\n")
    assert caught.value.message.startswith(message) or value == ""
    assert caught.value.span is not None and caught.value.span.line == 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1), min_size=1))
def test_any_fields_survive_their_csv(texts: list[str]) -> None:
    """What Python's own csv module writes is read again."""
    row: list[str] = []
    csv.writer(type("Sink", (), {"write": lambda _, line: row.append(line)})(), lineterminator="").writerow(texts)
    fields = split(Flag("mount", row[0], HERE))
    assert [field.shown + ("" if field.value is None else "=" + field.value.text) for field in fields] == texts


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('type=bindcache,",=$/ \\x'), max_size=40))
def test_anything_is_a_mount_or_an_error_with_its_place(value: str) -> None:
    text = f"FROM base\nRUN --mount={value} x\n"
    try:
        plan_of(text)
    except DockerfileError as error:
        assert error.span is not None and error.span.line == 2
