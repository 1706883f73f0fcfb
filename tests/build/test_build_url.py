"""ADD of URLs, through the whole program and to what ships, from a real server on loopback. Expectations are of Docker's
reference ("Adding files from a URL", "ADD --checksum", "ADD --unpack")."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.build_shipped import Member, a_dir, a_file, pack, refused, run_build, ship, under
from tests.build.build_store import assert_valid
from tests.conftest import Pybuild
from tests.context.context_server import Server, answer

MONDAY = "Mon, 06 Jul 2020 10:11:12 GMT"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "www") as running:
        (tmp_path / "www").mkdir()
        yield running


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def ran(stderr: str) -> str:
    found = re.search(r"steps +(.*)", stderr)
    assert found
    return found[1]


def test_files_arrive_as_the_reference_says(pybuild: Pybuild, context: Path, server: Server, tmp_path: Path) -> None:
    """Mode 600 of root; the name of the URL where the destination is a folder; archives stay packed unless told."""
    tar = gzip.compress(pack(tmp_path / "a.tar", Member("in/x", data=b"x", uid=5, gid=6)).read_bytes(), mtime=0)
    (tmp_path / "www" / "a.tar.gz").write_bytes(tar)
    server.routes["/d/f?x=1"] = answer(b"data", Content_Disposition="attachment; filename=other")
    server.routes["/"] = answer(b"index", Content_Disposition="attachment; filename=named")
    (context / "local").write_text("l")
    (context / "local.tar").write_bytes((tmp_path / "a.tar").read_bytes())
    found = ship(
        pybuild,
        context,
        f"FROM scratch\nARG HOST={server.host}\nENV NAME=f\n"
        "WORKDIR /w\n"
        "ADD http://$HOST/d/${NAME}?x=1 /folder/\n"
        "ADD http://$HOST/d/f?x=1#part /renamed\n"
        "ADD --chown=7:8 --chmod=755 http://$HOST/d/f?x=1 rel/\n"
        "ADD http://$HOST /index/\n"
        "ADD http://$HOST/a.tar.gz /packed/\n"
        "ADD --unpack=true http://$HOST/a.tar.gz /unpacked/\n"
        "ADD local local.tar http://$HOST/a.tar.gz http://$HOST/d/f?x=1 /mixed/\n",
    )
    remote = a_file(b"data", 0o600)
    assert under(found, "folder") == {".": a_dir(), "f": remote}
    assert found["renamed"] == remote
    assert under(found, "w") == {".": a_dir(), "rel": a_dir(owner="7:8"), "rel/f": a_file(b"data", 0o755, "7:8")}
    # The reference: a URL without a name "doesn't work"; Docker once took the header's, and so does this.
    assert under(found, "index") == {".": a_dir(), "named": a_file(b"index", 0o600)}
    assert under(found, "packed") == {".": a_dir(), "a.tar.gz": a_file(tar, 0o600)}
    unpacked = {"in": a_dir(), "in/x": a_file(b"x", owner="5:6")}
    assert under(found, "unpacked") == {".": a_dir(), **unpacked}
    mixed = {"local": a_file(b"l"), "a.tar.gz": a_file(tar, 0o600), "f": remote}
    assert under(found, "mixed") == {".": a_dir(), **unpacked, **mixed}
    # Each is asked for once a build.
    assert sorted(server.paths()) == ["/", "/a.tar.gz", "/d/f?x=1"]


def test_a_run_sees_the_servers_time(pybuild: Pybuild, context: Path, server: Server, busybox_base: Path) -> None:
    """Last-Modified, else 1970; and again from the store, where the file did not change."""
    server.routes["/dated"] = answer(b"d", Last_Modified=MONDAY)
    server.routes["/plain"] = answer(b"p")
    base = f"--build-context=base={busybox_base}"
    for line in ("first", "second"):
        text = f"FROM base\nADD {server.url}/dated {server.url}/plain /\nRUN stat -c '{line} %Y %a' /dated /plain\n"
        told = run_build(pybuild, context, text, base)
        assert f"{line} 1594030272 600" in told and f"{line} 0 600" in told
    assert [(asked.path, asked.headers.get("If-Modified-Since")) for asked in server.asked] == [
        ("/dated", None),
        ("/plain", None),
        ("/dated", MONDAY),
        ("/plain", None),
    ]


def test_what_did_not_change_is_not_downloaded_and_what_is_equal_is_a_hit(
    pybuild: Pybuild, context: Path, server: Server
) -> None:
    server.routes["/a/f"] = answer(b"data", ETag='"1"', Last_Modified=MONDAY)
    server.routes["/b/f"] = answer(b"data", ETag='"other"')
    text = f"FROM scratch\nADD {server.url}/a/f /d/\n"
    assert ran(run_build(pybuild, context, text)) == "1 ran, 0 cached"
    told = run_build(pybuild, context, text)
    assert ran(told) == "0 ran, 1 cached"
    assert f"{server.url}/a/f has not changed" in told
    assert server.asked[-1].headers["If-None-Match"] == '"1"'
    # Early cutoff: another URL, the same content and name; and the same URL with another time.
    assert ran(run_build(pybuild, context, text.replace("/a/", "/b/"))) == "0 ran, 1 cached"
    server.routes["/a/f"] = answer(b"data", ETag='"2"', Last_Modified="Tue, 07 Jul 2020 10:11:12 GMT")
    assert ran(run_build(pybuild, context, text)) == "0 ran, 1 cached"
    server.routes["/a/f"] = answer(b"DATA", ETag='"3"')
    assert ran(run_build(pybuild, context, text)) == "1 ran, 0 cached"
    assert len(server.asked) == 5
    assert_valid(pybuild.store)


def test_with_a_checksum_nobody_is_asked_twice(pybuild: Pybuild, context: Path, server: Server) -> None:
    server.routes["/f"] = answer(b"data")
    text = f"FROM scratch\nARG SUM={sha256(b'data')}\nADD --checksum=$SUM {server.url}/f /d/\n"
    assert ran(run_build(pybuild, context, text)) == "1 ran, 0 cached"
    assert ran(run_build(pybuild, context, text)) == "0 ran, 1 cached"
    # The content is there: under another address and name, and with no server at all.
    assert ran(run_build(pybuild, context, text.replace(f"{server.host}/f", "nothing.invalid/g"))) == "1 ran, 0 cached"
    assert server.paths() == ["/f"]
    # Not even when the server has something else by now; without the checksum it counts.
    server.routes["/f"] = answer(b"new")
    assert ran(run_build(pybuild, context, text, "--no-cache")) == "1 ran, 0 cached"
    assert server.paths() == ["/f"]
    message = refused(pybuild, context, text.replace(sha256(b"data"), sha256(b"dada")), code=5)
    assert message.splitlines()[-4:] == [
        f"{context}/Dockerfile:3:21: error: the checksum of {server.url}/f is not the one expected: "
        f"{sha256(b'dada')} was expected, but the content has {sha256(b'new')}",
        f"  3 | ADD --checksum=$SUM {server.url}/f /d/",
        f"    |                     {'^' * len(server.url)}^^",
        "  hint: if the new file is the right one, write its checksum",
    ]
    assert not (pybuild.store / "blobs" / "sha256" / sha256(b"new")[7:]).exists()
    assert_valid(pybuild.store)


def test_what_goes_wrong_is_told_with_its_place(pybuild: Pybuild, context: Path, server: Server) -> None:
    """Exit code 5, the source under the caret, a hint; and nothing is left of what came."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server.routes["/cut"] = answer(b"x" * 100_000, Content_Length="1000000")
    server.routes["/no"] = answer(status=403)
    for path, message, hint in (
        (f"http://127.0.0.1:{port}/f", "no connection: connection refused", "check the host and the port"),
        ("http://nothing.invalid/f", "the name 'nothing.invalid' is not known", "check the network"),
        (f"{server.url}/missing", "the server answered 404 Not Found", "check the URL in a browser"),
        (f"{server.url}/no", "the server answered 403 Forbidden", "only the credentials that the URL has are sent"),
        (f"{server.url}/cut", "the answer broke off or is damaged: it ended early", "try again"),
        (
            f"https://{server.host}/f",
            "the secure connection failed: what the server answers is no TLS",
            "it may speak plain HTTP",
        ),
    ):
        told = refused(pybuild, context, f"FROM scratch\nADD {path} /d/\n", code=5).splitlines()
        assert told[-4].startswith(f"{context}/Dockerfile:2:5: error: {path}: {message}"), told
        assert told[-2:-1] == [f"    |     {'^' * len(path)}"]
        assert told[-1].startswith(f"  hint: {hint}")
    nameless = refused(pybuild, context, f"FROM scratch\nADD {server.url}/%2e%2e /d/\n", code=5)
    assert "404" in nameless
    server.routes["/"] = answer(b"index")
    assert "d/__unnamed__" in ship(pybuild, context, f"FROM scratch\nADD {server.url}/ /d/\n")
    assert ship(pybuild, context, f"FROM scratch\nADD {server.url}/ /d\n") == {"d": a_file(b"index", 0o600)}
    assert_valid(pybuild.store)


def test_credentials_reach_the_server_and_nothing_else(pybuild: Pybuild, context: Path, server: Server, tmp_path: Path) -> None:
    server.routes["/f?token=s3cretquery"] = answer(b"data", ETag='"1"')
    url = server.url.replace("//", "//me:s3cretword@") + "/f?token=s3cretquery"
    out = tmp_path / "image.tar"
    done = run_build(pybuild, context, f"FROM scratch\nADD {url} /d/\n", "-t", "x", "-o", f"type=oci,dest={out}")
    shown = server.url.replace("//", "//xxxxx:xxxxx@") + "/f?token=xxxxx"
    assert f"] ADD {shown} /d/" in done and f"downloading {shown}" in done
    assert server.asked[0].headers["Authorization"] == "Basic bWU6czNjcmV0d29yZA=="
    history = pybuild("history", "x")
    server.routes["/f?token=s3cretquery"] = answer(status=401)
    failed = refused(pybuild, context, f"FROM scratch\nADD {url} /d/\n", code=5)
    told = pybuild("--progress=json", context).stderr
    for text in (done, history.stdout, failed, told):
        assert "s3cret" not in text
    kept = subprocess.run(["grep", "-rl", "s3cret", pybuild.store, out], capture_output=True, text=True)
    assert kept.stdout == ""


def test_through_the_proxy_of_the_environment(pybuild: Pybuild, context: Path, server: Server) -> None:
    server.routes["http://far.invalid/f"] = answer(b"through")
    (context / "Dockerfile").write_text("FROM scratch\nADD http://far.invalid/f /d/\n")
    done = pybuild("--progress=plain", context, env={"http_proxy": server.url})
    assert done.returncode == 0, done.stderr
    done = pybuild("--progress=plain", context, env={"http_proxy": server.url, "no_proxy": ".invalid"})
    assert done.returncode == 5
    assert server.paths() == ["http://far.invalid/f"]


def test_an_interrupted_download_leaves_nothing(pybuild: Pybuild, context: Path, server: Server) -> None:
    import signal
    import threading

    begun, done = threading.Event(), threading.Event()

    def endless(request: object) -> None:
        answer(b"x" * 300_000, Content_Length="1000000000")(request)  # type: ignore[arg-type]  # the handler
        begun.set()
        done.wait(30)

    server.routes["/f"] = endless
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {server.url}/f /d/\n")
    with pybuild.start("--progress=plain", context) as process:
        assert begun.wait(30)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
        done.set()
    assert process.returncode == 130, told
    assert list((pybuild.store / "blobs" / "sha256").iterdir()) == []
    assert_valid(pybuild.store)


def test_a_damaged_download_is_told_with_what_to_do(pybuild: Pybuild, context: Path, server: Server) -> None:
    server.routes["/f"] = answer(b"data")
    text = f"FROM scratch\nADD --checksum={sha256(b'data')} {server.url}/f /d/\n"
    run_build(pybuild, context, text)
    blob = pybuild.store / "blobs" / "sha256" / sha256(b"data")[7:]
    blob.write_bytes(b"dada")
    told = refused(pybuild, context, text.replace("/d/", "/other/"), code=7)
    assert (
        f"blob {sha256(b'data')} is corrupt: its content does not have this digest" in told and f"hint: remove {blob}" in told
    )
    blob.unlink()
    run_build(pybuild, context, text.replace("/d/", "/other/"))
