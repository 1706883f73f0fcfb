"""Config and manifest: the bytes that we write, and what we make of bytes that others wrote.

The goldens were written by hand from the OCI image-spec (config.md, manifest.md) and Docker's extension fields; a file ends
with a line end that the blob does not have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.oci.digest import Descriptor, Digest
from builder.oci.image import (
    CONFIG_TYPE,
    LAYER_TYPE,
    Healthcheck,
    ImageConfig,
    ParsedImage,
    assemble,
    complete_history,
    descriptor_json,
    manifest,
    parse_config,
    parse_descriptor,
)
from builder.oci.platform import Platform

GOLDEN = Path(__file__).parents[1] / "golden" / "config"
AMD64 = Platform("linux", "amd64")
A, B, C, D, E = (Digest("sha256", letter * 64) for letter in "abcde")
CREATED = "1980-01-02T00:00:00Z"

FULL = ImageConfig(
    Platform("linux", "arm", "v7"),
    "Ada <ada@example.com>",
    (("PATH", "/bin"), ("A", "1=2"), ("E", "")),
    "1000:1000",
    "/w",
    ("/app",),
    ("-v", "é"),
    frozenset({"80/tcp", "53/udp"}),
    frozenset({"/logs", "/data"}),
    (("a", ""), ("b c", '"d"')),
    "SIGQUIT",
    Healthcheck(("CMD", "x"), 30 * 10**9, 2, 3, 4, 3),
    ("/bin/ash", "-c"),
    ("RUN x",),
)
HISTORY = (
    {"created_by": "FROM base"},
    {"created": CREATED, "created_by": "ENV A=1", "comment": "c", "empty_layer": True},
)


def golden(name: str) -> bytes:
    data = (GOLDEN / name).read_bytes()
    assert data.endswith(b"}\n")
    return data[:-1]


def test_config() -> None:
    assert assemble(FULL, (A, B), HISTORY, created=CREATED) == golden("config.json")
    assert parse_config(golden("config.json")) == ParsedImage(FULL, (A, B), HISTORY)


def test_what_is_empty_is_not_written() -> None:
    assert assemble(ImageConfig(AMD64), (), (), created="2001-02-03T04:05:06Z") == golden("config-empty.json")
    assert parse_config(golden("config-empty.json")) == ParsedImage(ImageConfig(AMD64), (), ())
    # CMD [] takes the inherited one away, and there is no other way to say so.
    nothing = ImageConfig(AMD64, cmd=(), entrypoint=(), healthcheck=None)
    assert assemble(nothing, (), (), created="2001-02-03T04:05:06Z") == golden("config-empty.json")


def test_manifest() -> None:
    config = Descriptor(CONFIG_TYPE, C, 7023)
    layers = (Descriptor(f"{LAYER_TYPE}+gzip", D, 32654), Descriptor(f"{LAYER_TYPE}+zstd", E, 0, (("k", "v"),)))
    assert manifest(config, layers, {"b": "é", "a": "1"}) == golden("manifest.json")
    raw = json.loads(golden("manifest.json"))
    assert [parse_descriptor(layer) for layer in raw["layers"]] == list(layers)
    assert json.loads(manifest(config, ())).keys() == {"schemaVersion", "mediaType", "config", "layers"}


def test_the_order_of_sets_and_of_labels_does_not_matter() -> None:
    other = FULL._replace(
        exposed=frozenset(["53/udp", "80/tcp"]), volumes=frozenset(["/data", "/logs"]), labels=tuple(reversed(FULL.labels))
    )
    assert assemble(other, (A, B), HISTORY, created=CREATED) == golden("config.json")


def test_unknown_fields_are_kept_and_those_of_the_builder_are_not() -> None:
    raw = json.loads(golden("config.json"))
    raw |= {"os.version": "10.0", "os.features": ["win32k"], "new": {"nested": [1, None, 2.5, True]}}
    raw["config"] |= {"ArgsEscaped": True, "Memory": 5, "NetworkDisabled": False, "Later": {}}
    kept = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    raw |= {"container": "x", "container_config": {"Cmd": ["x"]}, "docker_version": "1.13", "id": "y", "parent": "z", "Size": 5}
    raw |= {"moby.buildkit.cache.v0": "e30=", "moby.buildkit.buildinfo.v1": "e30="}
    raw["config"] |= {
        "Hostname": "h",
        "Domainname": "",
        "AttachStdin": False,
        "Tty": False,
        "Image": "sha256:x",
        "StdinOnce": False,
    }
    parsed = parse_config(json.dumps(raw).encode())
    assert assemble(parsed.config, parsed.diff_ids, parsed.history, created=CREATED) == kept


def test_nulls_are_what_is_not_there() -> None:
    raw = {
        "os": "linux",
        "architecture": "amd64",
        "author": None,
        "config": dict.fromkeys(
            ("Env", "User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "StopSignal")
        )
        | {"Healthcheck": None, "Shell": None, "OnBuild": None},
        "rootfs": {"type": "layers", "diff_ids": None},
        "history": None,
    }
    assert parse_config(json.dumps(raw).encode()) == ParsedImage(ImageConfig(AMD64), (), ())
    assert parse_config(b"{}") == parse_config(b'{"config":null,"rootfs":null}') == ParsedImage(ImageConfig(AMD64), (), ())


def test_setting_variables_and_labels() -> None:
    config = (
        ImageConfig(AMD64, env=(("A", "1"), ("B", "2"))).setenv("A", "3").setenv("C", "4").setlabel("z", "1").setlabel("a", "2")
    )
    assert (config.env, config.labels) == ((("A", "3"), ("B", "2"), ("C", "4")), (("a", "2"), ("z", "1")))
    assert config.setlabel("z", "3").labels == (("a", "2"), ("z", "3"))


WRONG: list[tuple[str, str]] = [
    ("", "JSON expected at character 0"),
    ("[]", "it is not an object"),
    ('"x"', "it is not an object"),
    ("null", "it is not an object"),
    ("{", "Expecting property name"),
    ('{"os":1}', "os is not a string"),
    ('{"os":""', "Expecting"),
    ('{"architecture":["amd64"]}', "architecture is not a string"),
    ('{"variant":{}}', "variant is not a string"),
    ('{"author":false}', "author is not a string"),
    ('{"config":[]}', "config is not an object"),
    ('{"config":"x"}', "config is not an object"),
    ('{"config":false}', "config is not an object"),
    ('{"rootfs":[]}', "rootfs is not an object"),
    ('{"rootfs":{"diff_ids":"sha256:x"}}', "diff_ids is not a list of strings"),
    ('{"rootfs":{"diff_ids":["sha256:x"]}}', "'sha256:x' is not a digest"),
    ('{"rootfs":{"diff_ids":[1]}}', "diff_ids is not a list of strings"),
    ('{"history":{}}', "history is not a list"),
    ('{"history":{"a":1}}', "history is not a list"),
    ('{"history":[[["created_by","x"]]]}', "a line of the history is not an object"),
    ('{"history":["x"]}', "a line of the history is not an object"),
    ('{"history":[{"created_by":1}]}', "created_by in the history is not a text"),
    ('{"history":[{"created":{}}]}', "created in the history is not a text"),
    ('{"history":[{"empty_layer":"true"}]}', "empty_layer in the history is not a truth value"),
    ('{"config":{"Env":"A=1"}}', "Env is not a list of strings"),
    ('{"config":{"Env":["A=1",null]}}', "Env is not a list of strings"),
    ('{"config":{"Env":{"A":"1"}}}', "Env is not a list of strings"),
    ('{"config":{"Cmd":"sh"}}', "Cmd is not a list of strings"),
    ('{"config":{"Entrypoint":[["sh"]]}}', "Entrypoint is not a list of strings"),
    ('{"config":{"Shell":{}}}', "Shell is not a list of strings"),
    ('{"config":{"OnBuild":"RUN x"}}', "OnBuild is not a list of strings"),
    ('{"config":{"User":0}}', "User is not a string"),
    ('{"config":{"WorkingDir":["/"]}}', "WorkingDir is not a string"),
    ('{"config":{"StopSignal":9}}', "StopSignal is not a string"),
    ('{"config":{"ExposedPorts":["80/tcp"]}}', "ExposedPorts is not an object"),
    ('{"config":{"ExposedPorts":"80"}}', "ExposedPorts is not an object"),
    ('{"config":{"Volumes":["/v"]}}', "Volumes is not an object"),
    ('{"config":{"Labels":["a=1"]}}', "Labels is not an object"),
    ('{"config":{"Labels":{"a":1}}}', "a label is not a string"),
    ('{"config":{"Labels":{"a":null}}}', "a label is not a string"),
    ('{"config":{"Healthcheck":["CMD"]}}', "Healthcheck is not an object"),
    ('{"config":{"Healthcheck":{"Test":"x"}}}', "Test is not a list of strings"),
    ('{"config":{"Healthcheck":{"Interval":"5s"}}}', "Interval is not an integer of 64 bits"),
    ('{"config":{"Healthcheck":{"Interval":1.5}}}', "Interval is not an integer of 64 bits"),
    ('{"config":{"Healthcheck":{"Timeout":1e999}}}', "inf is no number"),
    ('{"config":{"Healthcheck":{"Timeout":NaN}}}', "NaN is not JSON"),
    ('{"config":{"Healthcheck":{"Retries":true}}}', "Retries is not an integer of 64 bits"),
    ('{"config":{"Healthcheck":{"StartPeriod":9223372036854775808}}}', "StartPeriod is not an integer of 64 bits"),
    ('{"config":{"Env":["A=\\u0000"]}}', "there is a NUL character in it"),
    ('{"config":{"Labels":{"\\u0000":"x"}}}', "there is a NUL character in it"),
    ('{"author":"\\ud800"}', "surrogates not allowed"),
    ('{"unknown":["\\udcff"]}', "surrogates not allowed"),
    ('{"unknown":-Infinity}', "-Infinity is not JSON"),
    ('{"unknown":' + "[" * 100 + "]" * 100 + "}", "it is nested too deeply"),
    ('{"unknown":' + "[" * 100_000 + "]" * 100_000 + "}", ""),
    ('{"unknown":' + "9" * 5000 + "}", ""),
    ('\ufeff{"os":"linux"}', "JSON expected at character 0"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=range(len(WRONG)))
def test_what_is_no_config(text: str, reason: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse_config(text.encode())
    assert caught.value.message.startswith("an image config is not valid: ")
    assert reason in caught.value.message
    assert caught.value.hint == "the image is damaged or hostile: fetch it again"


def test_other_encodings_are_no_config() -> None:
    for data in (b"\xff\xfe{\x00}\x00", '{"os":"linux"}'.encode("utf-16"), '{"os":"linux"}'.encode("utf-32"), b'{"os":"\xff"}'):
        with pytest.raises(BuildError):
            parse_config(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("Env", "User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck")
maybe = st.one_of(json_values, st.lists(st.text(max_size=3), max_size=3), st.just({"Test": ["CMD", "x"], "Interval": 5}))
configs = st.fixed_dictionaries({}, optional=dict.fromkeys((*FIELDS, "Shell", "OnBuild", "Other"), maybe))
images = st.fixed_dictionaries(
    {},
    optional={
        "architecture": maybe,
        "os": maybe,
        "variant": maybe,
        "author": maybe,
        "created": maybe,
        "config": configs | maybe,
        "rootfs": st.fixed_dictionaries({"diff_ids": maybe | st.just([str(A)])}) | maybe,
        "history": st.lists(st.fixed_dictionaries({}, optional={"created_by": maybe, "empty_layer": maybe}), max_size=2)
        | maybe,
        "other": maybe,
    },
)


def _parses_or_is_refused(data: bytes) -> None:
    try:
        parsed = parse_config(data)
    except BuildError:
        return
    # What was read can be written, and reads the same again.
    again = parse_config(assemble(parsed.config, parsed.diff_ids, parsed.history, created=CREATED))
    assert again == _without_empty(parsed)


def _without_empty(parsed: ParsedImage) -> ParsedImage:
    config = parsed.config
    return parsed._replace(config=config._replace(entrypoint=config.entrypoint or None, cmd=config.cmd or None))


@settings(max_examples=200, deadline=None)
@given(images)
def test_any_json_is_a_config_that_round_trips_or_an_error(raw: Any) -> None:
    _parses_or_is_refused(json.dumps(raw).encode())


@settings(max_examples=100, deadline=None)
@given(json_values | st.binary(max_size=30))
def test_any_other_json_and_any_bytes_too(raw: Any) -> None:
    _parses_or_is_refused(raw if isinstance(raw, bytes) else json.dumps(raw).encode())


@settings(max_examples=100, deadline=None)
@given(
    json_values
    | st.fixed_dictionaries({}, optional=dict.fromkeys(("mediaType", "digest", "size", "annotations", "platform"), maybe))
)
def test_any_json_is_a_descriptor_or_an_error(raw: Any) -> None:
    try:
        descriptor = parse_descriptor(raw)
    except BuildError:
        return
    assert parse_descriptor(descriptor_json(descriptor)) == descriptor


def test_descriptors() -> None:
    raw = {
        "mediaType": "m/t",
        "digest": str(A),
        "size": 5,
        "annotations": {"b": "2", "a": "1"},
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "x"},
        "urls": ["https://x.invalid"],
    }
    assert parse_descriptor(raw) == Descriptor("m/t", A, 5, (("a", "1"), ("b", "2")), ("linux", "arm", "v7"))
    assert parse_descriptor({"digest": str(A), "size": 0}) == Descriptor("", A, 0)
    wrong: Any
    for wrong in (
        {**raw, "size": -1},
        {**raw, "size": "5"},
        {**raw, "size": True},
        {**raw, "digest": "sha256:5"},
        {**raw, "digest": None},
        {**raw, "mediaType": 5},
        {**raw, "annotations": {"a": 1}},
        {**raw, "platform": "linux/arm"},
        {**raw, "platform": {"os": 1}},
        [],
        None,
    ):
        with pytest.raises(BuildError):
            parse_descriptor(wrong)


def test_a_history_has_one_line_for_each_layer() -> None:
    layer, empty = {"created_by": "x"}, {"created_by": "y", "empty_layer": True}
    assert complete_history((layer, empty, layer), 2) == (layer, empty, layer)
    assert complete_history((), 0) == ()
    assert complete_history((empty,), 2) == (
        empty,
        {"comment": "a layer without history"},
        {"comment": "a layer without history"},
    )
    # Too many: the oldest have no layer.
    assert complete_history((layer, empty, {"created_by": "z"}), 1) == (
        {"created_by": "x", "empty_layer": True},
        empty,
        {"created_by": "z"},
    )
    assert layer == {"created_by": "x"}
