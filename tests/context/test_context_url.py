"""Downloads from a real server on loopback: what is sent, what comes, and every way in which it can go wrong."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.context.url import Fetched, Limits, Validators, fetch, name_in
from builder.errors import RegistryError
from builder.http.proxies import proxy_for
from tests.context.context_server import Answer, Server, answer

QUICK = Limits(connect=5, idle=5, backoff=0)
NOTHING = Validators()
MONDAY = "Mon, 06 Jul 2020 10:11:12 GMT"
MONDAY_NS = 1594030272 * 10**9


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def got(url: str, known: Validators = NOTHING, limits: Limits = QUICK) -> tuple[Fetched, bytes]:
    out: list[bytes] = []
    fetched = fetch(url, out.append, known=known, limits=limits)
    return fetched, b"".join(out)


def failure(url: str, limits: Limits = QUICK) -> str:
    with pytest.raises(RegistryError) as caught:
        got(url, limits=limits)
    assert caught.value.exit_code == 5
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_file_and_what_the_server_says_of_it(server: Server) -> None:
    server.routes["/f?x=1"] = answer(
        b"data", Last_Modified=MONDAY, ETag='"v1"', Content_Disposition='attachment; filename="n.txt"'
    )
    seen: list[tuple[int, int]] = []
    out: list[bytes] = []
    fetched = fetch(f"{server.url}/f?x=1#part", out.append, progress=lambda done, size: seen.append((done, size)), limits=QUICK)
    assert fetched == Fetched(True, "n.txt", Validators('"v1"', MONDAY), MONDAY_NS, 4)
    assert (out, seen) == ([b"data"], [(4, 4)])
    assert [asked.headers for asked in server.asked] == [
        {"Host": server.host, "User-Agent": "pybuild", "Accept": "*/*", "Accept-Encoding": "gzip"}
    ]


def test_a_known_version_is_asked_for_and_not_downloaded(server: Server) -> None:
    server.routes["/etag"] = answer(b"data", ETag='"v1"', Last_Modified=MONDAY)
    server.routes["/time"] = answer(b"data", Last_Modified=MONDAY)
    # Some servers know no conditions, but say the same ETag.
    server.routes["/deaf"] = lambda request: answer(b"long", ETag='W/"v1"')(request)
    for path, known, sent in (
        ("/etag", Validators('"v1"', MONDAY), {"If-None-Match": '"v1"'}),
        ("/time", Validators("", MONDAY), {"If-Modified-Since": MONDAY}),
        ("/deaf", Validators('"v1"'), {"If-None-Match": '"v1"'}),
    ):
        fetched, data = got(server.url + path, known)
        assert (fetched.changed, data, fetched.size) == (False, b"", 0)
        headers = server.asked[-1].headers
        assert {name: value for name, value in headers.items() if name.startswith("If-")} == sent
    fetched, data = got(f"{server.url}/etag", Validators('"v0"'))
    assert (fetched.changed, data) == (True, b"data")
    server.routes["/liar"] = answer(status=304)
    assert "304 to a question that nobody asked" in failure(f"{server.url}/liar")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("inline; filename=x", "x"),
        ("attachment; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ('attachment; filename="/etc/passwd"', "passwd"),
        ('attachment; filename="../.."', ""),
        ('attachment; filename="dir/"', ""),
        ("attachment", ""),
        ('attachment; filename="a\tb"', ""),
    ],
)
def test_names_in_headers(server: Server, header: str, name: str) -> None:
    server.routes["/"] = answer(Content_Disposition=header)
    assert got(server.url)[0].name == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        # moby/buildkit, convert_copy.go: path.Base of the decoded path.
        ("http://h/foobar", "foobar"),
        ("http://h/a/b.tar.gz?x=/y#/z", "b.tar.gz"),
        ("http://h/a/", "a"),
        ("http://h/a%20b%2Fc", "c"),
        ("http://h/%E2%82%AC", "€"),
        ("http://h", ""),
        ("http://h/", ""),
        ("http://h/a/..", ""),
        ("http://h/%2e", ""),
        ("http://h/a%00b", ""),
    ],
)
def test_names_in_urls(url: str, name: str) -> None:
    assert name_in(url) == name


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_no_name_leads_elsewhere(path: str) -> None:
    name = name_in(f"http://h/{path}")
    assert "/" not in name and "\0" not in name and name not in (".", "..")


def test_redirects_are_followed_and_credentials_stay_at_home(server: Server) -> None:
    with Server() as other:
        server.routes["/1"] = answer(status=301, Location="/2?q")
        server.routes["/2?q"] = answer(status=307, Location=f"{other.url}/3")
        other.routes["/3"] = answer(b"there")
        url = server.url.replace("//", "//user:p%40ss%E2%82%AC@")
        assert got(f"{url}/1")[1] == b"there"
        sent = [asked.headers.get("Authorization") for asked in (*server.asked, *other.asked)]
        assert sent == ["Basic dXNlcjpwQHNz4oKs", "Basic dXNlcjpwQHNz4oKs", None]
    server.routes["/loop"] = answer(status=302, Location="/loop")
    assert "redirects more than 10 times" in failure(f"{server.url}/loop")
    assert server.paths().count("/loop") == 11
    for target in ("file:///etc/passwd", "ftp://h/x", "http://[x/"):
        server.routes["/out"] = answer(status=302, Location=target)
        assert "which is no URL of a file" in failure(f"{server.url}/out"), target
    server.routes["/nowhere"] = answer(status=302)
    assert "answered 302 Found" in failure(f"{server.url}/nowhere")


def test_content_encoding_gzip_is_undone_and_others_stay(server: Server) -> None:
    """As Go's http client, which asks for gzip alone; concatenated members are one content."""
    long = bytes(3_000_000)
    server.routes["/gz"] = answer(gzip.compress(b"one ") + gzip.compress(b"two"), Content_Encoding="gzip")
    server.routes["/bomb"] = answer(gzip.compress(long), Content_Encoding="gzip")
    server.routes["/br"] = answer(b"as it is", Content_Encoding="br")
    server.routes["/cut"] = answer(gzip.compress(long)[:-9], Content_Encoding="gzip")
    server.routes["/bad"] = answer(b"no gzip at all", Content_Encoding="gzip")
    assert got(f"{server.url}/gz")[1] == b"one two"
    assert got(f"{server.url}/bomb")[1] == long
    assert got(f"{server.url}/br")[1] == b"as it is"
    assert "larger than the 1 MiB that are allowed" in failure(f"{server.url}/bomb", QUICK._replace(size=1 << 20))
    assert "broke off or is damaged: it ended early" in failure(f"{server.url}/cut")
    assert "broke off or is damaged: Error -3 while decompressing data" in failure(f"{server.url}/bad")


def test_chunked_bodies_and_truncated_ones(server: Server) -> None:
    def chunked(*chunks: bytes) -> bytes:
        return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)

    server.routes["/whole"] = _raw(b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"c", b""))
    server.routes["/cut"] = _raw(b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ab")[:-1])
    server.routes["/short"] = answer(b"only this", Content_Length="10000")
    assert got(f"{server.url}/whole")[1] == b"abc"
    assert "broke off or is damaged: it ended early" in failure(f"{server.url}/cut")
    assert "broke off or is damaged: it ended early" in failure(f"{server.url}/short")
    assert server.paths() == ["/whole", "/cut", "/short"]


def _raw(data: bytes) -> Answer:
    def reply(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + data)

    return reply


def test_what_may_be_better_in_a_moment_is_tried_again_and_nothing_else(server: Server) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.connection.shutdown(socket.SHUT_RDWR)

    server.routes["/busy"] = [answer(status=503), answer(status=429, Retry_After="0"), answer(b"now")]
    server.routes["/broken"] = [hang_up, answer(b"now")]
    server.routes["/down"] = answer(status=502)
    server.routes["/gone"] = answer(status=410)
    assert got(f"{server.url}/busy")[1] == got(f"{server.url}/broken")[1] == b"now"
    assert "answered 502 Bad Gateway | try again later" in failure(f"{server.url}/down")
    for path, said in (("/gone", "410 Gone"), ("/missing", "404 Not Found")):
        assert f"answered {said}" in failure(server.url + path)
    assert [server.paths().count(path) for path in ("/busy", "/broken", "/down", "/gone", "/missing")] == [3, 2, 3, 1, 1]
    for status in (401, 403):
        server.routes["/secret"] = answer(status=status)
        assert "only the credentials that the URL has are sent" in failure(f"{server.url}/secret")


def test_silence_is_not_waited_for(server: Server) -> None:
    done = threading.Event()
    server.routes["/never"] = lambda request: done.wait(30)
    server.routes["/drip"] = lambda request: (answer(b"a", Content_Length="9")(request), done.wait(30))
    try:
        for path in ("/never", "/drip"):
            assert "did not answer for 0.1 s" in failure(server.url + path, QUICK._replace(idle=0.1))
    finally:
        done.set()
    server.routes["/slow"] = answer(b"x" * 1_000_000)
    assert "took longer than -1 s" in failure(f"{server.url}/slow", QUICK._replace(total=-1))
    assert server.paths() == ["/never", "/drip", "/slow"]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "no connection: connection refused | check the host and the port" in failure(f"http://127.0.0.1:{port}/x")
    assert "the name 'nothing.invalid' is not known" in failure("http://nothing.invalid/x")
    assert "is no URL" in failure(f"http://{'ü' * 100}.de/")


def test_servers_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tls=tmp_path) as server:
        server.routes["/f"] = answer(b"safe")
        assert "the secure connection failed: self-signed certificate |" in failure(f"{server.url}/f")
        # What the administrator adds to the system's certificates, as OpenSSL finds it.
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        assert got(f"{server.url}/f")[1] == b"safe"
        assert server.paths() == ["/f"]
        with Server(tls=tmp_path, address="127.0.0.2") as other:
            assert "the secure connection failed: IP address mismatch" in failure(f"{other.url}/f")


LINES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 304 ",
            b"HTTP/1.1 302 Found",
            b"HTTP/9.9 abc",
            b"Content-Length: 3",
            b"Content-Length: -1",
        ),
        *(
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Content-Encoding: gzip",
            b"ETag: \xff",
            b"",
            b"abc",
        ),
        *(b"Location: http://[::1", b"Location: //\xff:0/", b"Location: \xe9", b"Last-Modified: Mon, 99 Foo 99999", b"3", b"0"),
        *(b"Content-Disposition: a; filename*=x'y'%ff", b"Content-Disposition: ;;=\xff", b"Retry-After: 0", b"x" * 70000),
    ]
)


@given(st.lists(LINES | st.binary(max_size=20), max_size=8), st.sampled_from([b"\r\n", b"\n"]))
@settings(max_examples=100, deadline=None)
def test_any_answer_is_a_file_or_an_error(lines: list[bytes], end: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(end.join(lines))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            limits = Limits(connect=1, idle=1, attempts=1, redirects=0, size=1000)
            got(f"http://127.0.0.1:{listener.getsockname()[1]}/f", Validators('"1"', MONDAY), limits)
        except RegistryError as error:
            assert error.exit_code == 5
        thread.join()


def test_through_a_proxy(server: Server) -> None:
    """The proxy is asked by the whole URL, and told its own password alone."""
    server.routes["http://far.invalid/f"] = answer(b"through")
    out: list[bytes] = []
    proxies = (("http_proxy", server.url.replace("//", "//me:pw@")),)
    fetch("http://far.invalid/f", out.append, proxies=proxies, limits=QUICK)
    assert out == [b"through"]
    assert server.asked[0].headers["Proxy-Authorization"] == "Basic bWU6cHc="
    with pytest.raises(RegistryError, match=r"the proxy 'socks5://xxxxx:xxxxx@h:1' is of an unsupported kind"):
        fetch("http://far.invalid/f", out.append, proxies=(("all_proxy", "socks5://me:pw@h:1"),), limits=QUICK)
    with pytest.raises(RegistryError, match=r"the proxy 'http://\[x' is of an unsupported kind"):
        fetch("http://far.invalid/f", out.append, proxies=(("http_proxy", "[x"),), limits=QUICK)
    with pytest.raises(RegistryError, match="the proxy failed"):
        fetch("http://far.invalid/f", out.append, proxies=(("http_proxy", "nothing.invalid:1"),), limits=QUICK)


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://h/", {}, ""),
        ("http://h/", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://h/", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("https://h/", {"http_proxy": "http://p:1"}, ""),
        ("https://h/", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://h/", {"http_proxy": "http://p:1", "no_proxy": "*"}, ""),
        ("http://a.h/", {"http_proxy": "http://p:1", "NO_PROXY": "x, h"}, ""),
        ("http://h/", {"http_proxy": "http://p:1", "no_proxy": ".h"}, "http://p:1"),
        ("http://a.h/", {"http_proxy": "http://p:1", "no_proxy": ".h"}, ""),
        ("http://a.h/", {"http_proxy": "http://p:1", "no_proxy": "*.h"}, ""),
        ("http://ah/", {"http_proxy": "http://p:1", "no_proxy": "h"}, "http://p:1"),
        ("http://h:81/", {"http_proxy": "http://p:1", "no_proxy": "h:80"}, "http://p:1"),
        ("http://h/", {"http_proxy": "http://p:1", "no_proxy": "h:80"}, ""),
        ("http://10.1.2.3/", {"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, ""),
        ("http://[fd00::1]/", {"http_proxy": "http://p:1", "no_proxy": "fd00::1"}, ""),
        ("http://[fd00::1]:9/", {"http_proxy": "http://p:1", "no_proxy": "[fd00::1]:9"}, ""),
        ("http://localhost/", {"http_proxy": "http://p:1"}, ""),
        ("http://127.0.0.9/", {"http_proxy": "http://p:1"}, ""),
    ],
)
def test_which_proxy(url: str, variables: dict[str, str], proxy: str) -> None:
    """golang.org/x/net/http/httpproxy, and curl's `all_proxy`."""
    assert proxy_for(url, tuple(variables.items())) == proxy
