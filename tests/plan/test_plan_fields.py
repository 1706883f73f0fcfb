"""The small languages inside instructions. The port cases are those of BuildKit's convert_expose_test.go and of its rules."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import DockerfileError
from builder.plan import fields


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("80/tcp", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("3456/sctp", ["3456/sctp"]),
        ("0", ["0/tcp"]),
        ("00080", ["80/tcp"]),
        ("65535", ["65535/tcp"]),
        ("8000-8002", ["8000/tcp", "8001/tcp", "8002/tcp"]),
        ("8000-8000/udp", ["8000/udp"]),
        ("8080:80", ["80/tcp"]),
        (":80", ["80/tcp"]),
        ("8080-8081:80", ["80/tcp"]),
        ("0.0.0.0:1234-1235:3333-3334/tcp", ["3333/tcp", "3334/tcp"]),
        ("[2001:4860:0:2001::68]::333", ["333/tcp"]),
        ("[::1]:80:80", ["80/tcp"]),
        ("2001:4860:0:2001::68::333", ["333/tcp"]),
        ("::1:80:80", ["80/tcp"]),
        ("::::80", ["80/tcp"]),
    ],
)
def test_ports(text: str, expected: list[str]) -> None:
    assert fields.ports(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("80/tcpp", "'80/tcpp' has an unknown protocol", "did you mean 'tcp'?"),
        ("80/tcp/udp", "'80/tcp/udp' has an unknown protocol", "the protocols are tcp, udp and sctp"),
        ("", "'' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("/tcp", "'/tcp' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("http", "'http' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("65536", "'65536' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("-80", "'-80' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("1-2-3", "'1-2-3' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("٨٠", "'٨٠' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("http:80", "'http:80' is not a port", "write the container's port alone, as 80 or 8000-8010/udp"),
        ("90-80", "'90-80' ends before it begins", "did you mean '80-90'?"),
        ("localhost:1234:1234/tcp", "'localhost' in 'localhost:1234:1234/tcp' is not an IP address", None),
        ("[::1:80:80", "'[::1' in '[::1:80:80' is not an IP address", None),
        ("fe80::1%eth0::80", "'fe80::1%eth0' in 'fe80::1%eth0::80' is not an IP address", None),
        ("80-82:90-91", "the port ranges of '80-82:90-91' differ in length", None),
    ],
)
def test_what_is_no_port(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(DockerfileError) as caught:
        fields.ports(text)
    assert caught.value.message == message
    assert caught.value.hint == (hint or caught.value.hint)


def test_all_ports_at_once() -> None:
    assert len(fields.ports("0-65535")) == 65536


SECOND = 10**9


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        # The examples of Go's time package.
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (4 * 60 * SECOND + 5 * SECOND, "4m5s"),
        (4 * 60 * SECOND + 5 * SECOND + 1_000_000, "4m5.001s"),
        (5 * 3600 * SECOND + 6 * 60 * SECOND + 7 * SECOND + 1_000_000, "5h6m7.001s"),
        (8 * 60 * SECOND + 1, "8m0.000000001s"),
        (2**63 - 1, "2562047h47m16.854775807s"),
        (1_000_000, "1ms"),
        (999_999_999, "999.999999ms"),
        (3600 * SECOND, "1h0m0s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, shown: str) -> None:
    assert fields.shown_duration(nanoseconds) == shown


@pytest.mark.parametrize(
    "text", ["9", "1", "64", "SIGTERM", "term", "sigKill", "USR1", "SIGRTMIN", "rtmin+3", "SIGRTMAX-1", "WINCH"]
)
def test_signals_stay_as_they_are(text: str) -> None:
    assert fields.signal(text) == text


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "SIG", "SIGFOO", "RTMIN+16", "RTMIN-1", "9 ", "٩", "SIGSIGTERM"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"is not a signal$") as caught:
        fields.signal(text)
    near = {"RTMIN-1": "did you mean 'RTMIN'?"}
    assert caught.value.hint == near.get(text, "write a name as SIGTERM or a number from 1 to 64")


@pytest.mark.parametrize(
    ("text", "near"), [("SIGTREM", "SIGTERM"), ("sigtermm", "sigTERM"), ("QIUT", "QUIT"), ("SIGKIL", "SIGKILL")]
)
def test_signals_that_were_probably_meant(text: str, near: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        fields.signal(text)
    assert caught.value.hint == f"did you mean '{near}'?"


@pytest.mark.parametrize(
    ("workdir", "path", "expected"),
    [
        ("", "x", "/x"),
        ("/", "x", "/x"),
        ("/a", "x", "/a/x"),
        ("/a", "x/", "/a/x/"),
        ("/a", "/x", "/x"),
        ("/a", "/x/", "/x/"),
        ("/a", ".", "/a/"),
        ("/a", "./", "/a/"),
        ("/a", "./x/.", "/a/x/"),
        ("/a", "..", "/"),
        ("/a/b", "../c", "/a/c"),
        ("/a/b", "../../../../c/..", "/"),
        ("/a/b", "..//c/../d//e", "/a/d/e"),
        ("/", "/", "/"),
        ("/a", "...", "/a/..."),
    ],
)
def test_destinations(workdir: str, path: str, expected: str) -> None:
    assert fields.destination(workdir, path) == expected


@settings(max_examples=200, deadline=None)
@given(st.text("ab./", max_size=12), st.text("ab./", max_size=12))
def test_join_is_posix_normalisation_below_the_root(base: str, path: str) -> None:
    expected = posixpath.normpath(posixpath.join("/" + base, path)) if path else posixpath.normpath("/" + base)
    assert fields.join("/" + base, path) == "/" + expected.lstrip("/")
