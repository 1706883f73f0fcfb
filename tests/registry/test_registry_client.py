"""The client against Debian's docker-registry, and against what networks and servers do to its requests."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import RegistryError, UsageError
from builder.oci.digest import Descriptor, Digest
from builder.oci.reference import Reference
from builder.registry.access import Limits, RegistryAccess
from builder.registry.auth import _parsed, bytes_body
from builder.registry.client import Client
from builder.registry.hosts import is_loopback
from builder.registry.http import Http
from builder.registry.manifests import ImageManifest, Index, Raw, parse
from builder.registry.repository import Repository
from tests.registry import registry_images
from tests.registry.registry_proxy import Answer as ProxyAnswer
from tests.registry.registry_proxy import FaultProxy, altered, dropped, replaced, stalled, status
from tests.registry.registry_server import PASSWORD, USER, RegistryServer

QUICK = RegistryAccess(limits=Limits(connect=30, idle=30, attempts=3, backoff=0.001, longest_wait=0.05))
LARGE = random.Random(1).randbytes(3_000_000)
"""What does not fit into the buffers on the way."""
OCTETS = "application/octet-stream"


@pytest.fixture(scope="module")
def image(registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that skopeo pushed, with one large layer, and its repository."""
    folder = registry_images.layout(tmp_path_factory.mktemp("image") / "layout", [{"large": LARGE}])
    registry_images.push(folder, f"{registry.host}/some/image:1")
    return "some/image"


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(QUICK) as one:
        yield one


def repository(client: Client, host: str, path: str) -> Repository:
    return client.repository(Reference.parse(f"{host}/{path}"))


def manifest(found: Repository, tag: str = "1") -> ImageManifest:
    raw = found.manifest(tag)
    assert raw is not None
    parsed = parse(raw, "it")
    assert isinstance(parsed, ImageManifest)
    return parsed


def layer(found: Repository) -> Descriptor:
    return manifest(found).layers[0]


def fetched(found: Repository, descriptor: Descriptor) -> bytes:
    parts: list[bytes] = []
    found.blob(descriptor, parts.append)
    return b"".join(parts)


# Manifests and blobs


def test_an_image_of_skopeo_is_read(client: Client, registry: RegistryServer, image: str) -> None:
    found = repository(client, registry.host, image)
    parsed = manifest(found)
    assert Digest.of(fetched(found, parsed.layers[0])) == parsed.layers[0].digest
    assert json.loads(found.read(parsed.config, 1 << 20))["os"] == "linux"
    by_digest = found.manifest(parsed.digest)
    assert by_digest is not None and by_digest.digest == parsed.digest


def test_what_is_not_there(client: Client, registry: RegistryServer, image: str) -> None:
    found = repository(client, registry.host, image)
    nowhere = Digest.of(b"nowhere")
    assert (found.manifest("2"), found.manifest(nowhere)) == (None, None)
    assert not found.has_blob(nowhere)
    assert repository(client, registry.host, "no/such").manifest("1") is None
    with pytest.raises(RegistryError, match=rf"{registry.host} has no blob {nowhere} of {registry.host}/{image}"):
        fetched(found, Descriptor(OCTETS, nowhere, 7))


def test_blobs_are_uploaded_and_mounted(client: Client, registry: RegistryServer) -> None:
    data = LARGE[::-1]
    descriptor = Descriptor(OCTETS, Digest.of(data), len(data))
    first, second = (repository(client, registry.host, path) for path in ("up/one", "up/two"))
    assert not first.has_blob(descriptor.digest)
    assert first.upload(descriptor, bytes_body(data))
    assert first.has_blob(descriptor.digest) and not second.has_blob(descriptor.digest)
    assert not second.upload(descriptor, bytes_body(data), "up/one")
    assert fetched(second, descriptor) == data
    # A source that does not have it costs an upload, no more.
    other = Descriptor(OCTETS, Digest.of(b"other"), 5)
    assert second.upload(other, bytes_body(b"other"), "up/none")


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_blobs(client: Client, registry: RegistryServer, size: int) -> None:
    data = b"x" * size
    descriptor = Descriptor(OCTETS, Digest.of(data), size)
    found = repository(client, registry.host, "up/small")
    found.upload(descriptor, bytes_body(data))
    assert fetched(found, descriptor) == data


# Faults


def test_a_broken_download_goes_on_where_it_ended(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    wanted = layer(found)
    for after in (1_000_000, 500_000, 0):
        proxy.hit(f"GET /v2/{image}/blobs/{wanted.digest}", dropped(after))
    assert Digest.of(fetched(found, wanted)) == wanted.digest
    ranges = [one.headers.get("Range") for one in proxy.passed if "/blobs/" in one.path]
    assert ranges[0] is None and len(ranges) == 4
    starts = [int((one or "").removeprefix("bytes=").rstrip("-")) for one in ranges[1:]]
    # What was on its way in buffers may be lost.
    assert 0 < starts[0] <= 1_000_000 and starts[0] <= starts[1] <= 1_500_000 and starts[1] == starts[2]


def test_a_server_without_ranges(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    wanted = layer(found)
    whole = fetched(found, wanted)
    proxy.hit("/blobs/", dropped(1_000_000))
    proxy.hit("/blobs/", replaced(whole))
    assert fetched(found, wanted) == whole


def test_a_download_that_never_goes_on_ends(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    wanted = layer(found)
    proxy.hit("/blobs/", dropped(0), times=20)
    with pytest.raises(RegistryError, match="the answer broke off or is damaged"):
        fetched(found, wanted)
    assert len([one for one in proxy.passed if "/blobs/" in one.path]) == QUICK.limits.attempts


def test_a_server_that_falls_silent_and_goes_on(proxy: FaultProxy, image: str) -> None:
    # No answer that comes needs as long, on a busy machine too.
    impatient = QUICK._replace(limits=QUICK.limits._replace(idle=3))
    with Client(impatient) as client:
        found = repository(client, proxy.host, image)
        wanted = layer(found)
        proxy.hit("/blobs/", stalled(1_000_000))
        assert Digest.of(fetched(found, wanted)) == wanted.digest


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (altered, "sent a blob of .* that is not sha256:"),
        (lambda _, answer: answer._replace(body=answer.body + b"x", headers={}), "sent more of the blob"),
        (lambda _, answer: ProxyAnswer(200, {}, LARGE[:1000]), "sent less of the blob"),
        (lambda _, answer: answer._replace(body=answer.body[:-1], headers={}), "answered a range of .* by another one"),
    ],
)
def test_other_bytes_than_the_digest_says(client: Client, proxy: FaultProxy, image: str, fault: object, message: str) -> None:
    found = repository(client, proxy.host, image)
    wanted = layer(found)
    # Each time that it is asked, also for the rest of what is short.
    proxy.hit("/blobs/", fault, times=9)  # type: ignore[arg-type]  # one of the functions above
    with pytest.raises(RegistryError, match=message):
        fetched(found, wanted)


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_server_that_is_better_in_a_moment(client: Client, proxy: FaultProxy, image: str, code: int) -> None:
    found = repository(client, proxy.host, image)
    proxy.hit("/manifests/", status(code, Retry_After="3600"))
    proxy.hit("/manifests/", status(code, Retry_After="Wed, 01 Jan 2200 00:00:00 GMT"))
    assert manifest(found).layers
    proxy.hit("/manifests/", status(code), times=3)
    with pytest.raises(RegistryError, match=rf"{proxy.host} answered {code} for {proxy.host}/{image}") as caught:
        found.manifest("1")
    assert caught.value.hint == "try again later"


def test_uploads_are_tried_again_as_a_whole(client: Client, proxy: FaultProxy) -> None:
    found = repository(client, proxy.host, "up/again")
    data = LARGE[:1000] + b"again"
    descriptor = Descriptor(OCTETS, Digest.of(data), len(data))
    proxy.hit("PUT", status(500))
    proxy.hit("PUT", dropped(0))
    proxy.hit("POST", status(503))
    assert found.upload(descriptor, bytes_body(data))
    assert fetched(found, descriptor) == data
    assert [one.method for one in proxy.passed if "/uploads/" in one.path] == ["POST", "POST", "PUT", "POST", "PUT"]


def test_redirects_without_end(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    proxy.hit("/manifests/", status(307, Location=f"/v2/{image}/manifests/1"), times=11)
    with pytest.raises(RegistryError, match="redirects more than 10 times"):
        found.manifest("1")
    proxy.hit("/manifests/", status(307, Location="file:///etc/passwd"))
    with pytest.raises(RegistryError, match="which is no URL"):
        found.manifest("1")


def test_a_registry_that_is_down(client: Client, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "down") as server:
        host = server.host
    with pytest.raises(RegistryError, match=f"http://{host}/v2/: no connection: connection refused"):
        repository(client, host, "a")


def test_a_server_that_takes_connections_and_says_nothing_is_asked_once() -> None:
    """Each time costs a minute; so does each connection that a firewall lets vanish, which is told by the same error."""
    http = Http(QUICK._replace(limits=QUICK.limits._replace(idle=0.2)), "127.0.0.1", set())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        with pytest.raises(RegistryError, match=r"the server did not answer for 0\.2 s"):
            http.request("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/v2/", {})
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    http.close()


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://host:port/", "http://127.0.0.1:99999/", "http://[", "ftp://a/?token=abc"]
)
def test_uploads_to_what_is_no_url(client: Client, proxy: FaultProxy, location: str) -> None:
    found = repository(client, proxy.host, "up/nowhere")
    proxy.hit("POST", status(202, Location=location))
    with pytest.raises(RegistryError, match=r"wants uploads at '.*', which is no URL") as caught:
        found.upload(Descriptor(OCTETS, Digest.of(b"a"), 1), bytes_body(b"a"))
    assert "abc" not in caught.value.message
    assert not [one for one in proxy.passed if one.method == "PUT"]


def test_a_registry_at_the_port_of_plain_http_alone(proxy: FaultProxy, image: str) -> None:
    """Nobody listens at this machine's port 443; plain HTTP leads to the registry by a proxy."""
    careless = QUICK._replace(tls_verify=False, proxies=(("http_proxy", f"http://{proxy.host}"),))
    with Client(careless) as client:
        assert repository(client, "0.0.0.0", image).manifest("1") is not None
    refused = "https://0.0.0.0/v2/: no connection: connection refused"
    with Client(QUICK._replace(tls_verify=False)) as client, pytest.raises(RegistryError, match=refused):
        repository(client, "0.0.0.0", image)
    assert all(one.path.startswith("http://0.0.0.0/v2/") for one in proxy.passed)


@pytest.mark.parametrize("domain", ["localhost:65536", "registry.invalid:99999", f"registry.invalid:{'9' * 200}"])
def test_ports_that_cannot_be(client: Client, domain: str) -> None:
    with pytest.raises(UsageError, match="has no valid port"):
        repository(client, domain, "a")


# Manifests that are none


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', "application/json", "is of Docker's schema 1"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "is of Docker's schema 1"),
        (b'{"schemaVersion": 2}', "application/vnd.example.thing", "is of the unknown type 'application/vnd.example.thing'"),
        (b'{"mediaType": "x/y"}', "application/vnd.oci.image.manifest.v1+json", "is of the unknown type 'x/y'"),
        (b'{"mediaType": 7}', "", "is of the unknown type '7'"),
        (b"[]", "", "is no JSON object"),
        (b"\xff", "", "is no JSON object"),
        (b"[" * 100_000, "", "is no JSON object"),
        (b'{"config": {}, "layers": []}', "", "is damaged: "),
        (b'{"layers": 1}', "application/vnd.oci.image.manifest.v1+json", "is damaged: "),
        (b'{"manifests": [{"digest": "sha256:12"}]}', "", "is damaged: "),
    ],
)
def test_manifests_that_are_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        parse(Raw(body, kind, Digest.of(body)), "it")


def test_an_index_without_a_type() -> None:
    body = b'{"manifests": []}'
    assert parse(Raw(body, "application/json", Digest.of(body)), "it") == Index(Digest.of(body), ())


def test_a_manifest_of_many_megabytes(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    huge = b"{" + b" " * (5 << 20)
    proxy.hit("/manifests/", lambda _, answer: ProxyAnswer(200, {"Content-Length": str(500 << 20)}, b"{", cut=1))
    proxy.hit("/manifests/", lambda _, answer: ProxyAnswer(200, {"Transfer-Encoding": "identity"}, huge))
    for _ in range(2):
        with pytest.raises(RegistryError, match="is larger than 4 MiB"):
            found.manifest("1")


def test_a_manifest_that_is_not_its_digest(client: Client, proxy: FaultProxy, image: str) -> None:
    found = repository(client, proxy.host, image)
    wanted = manifest(found).digest
    proxy.hit("/manifests/", altered, times=2)
    for tag in ("1", wanted):
        with pytest.raises(RegistryError, match=rf"sent a manifest of .* that is not {wanted}"):
            found.manifest(tag)


# Credentials


def docker_config(folder: Path, content: object) -> str:
    file = folder / "config.json"
    file.write_text(json.dumps(content))
    return str(file)


def with_user(folder: Path, host: str, password: str = PASSWORD) -> RegistryAccess:
    return QUICK._replace(auth_files=(docker_config(folder, {"auths": {host: {"username": USER, "password": password}}}),))


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_a_user_may_push_and_pull(secured: RegistryServer, tmp_path: Path) -> None:
    data = b"mine"
    descriptor = Descriptor(OCTETS, Digest.of(data), len(data))
    with Client(with_user(tmp_path, secured.host)) as client:
        one, two = (repository(client, secured.host, path) for path in ("own/one", "own/two"))
        assert one.upload(descriptor, bytes_body(data))
        assert not two.upload(descriptor, bytes_body(data), "own/one")
        assert fetched(two, descriptor) == data


@pytest.mark.parametrize("secured", ["htpasswd", "token"], indirect=True)
def test_who_may_not(secured: RegistryServer, tmp_path: Path) -> None:
    with Client(QUICK) as client, pytest.raises(RegistryError) as caught:
        repository(client, secured.host, "own/one").manifest("1")
    assert caught.value.message == f"{secured.host} wants credentials for pulling own/one, and there are none"
    assert caught.value.hint == f"log in: pybuild login {secured.host}; is the name right?"
    with Client(with_user(tmp_path, secured.host, "wrong-word")) as client, pytest.raises(RegistryError) as caught:
        repository(client, secured.host, "own/one").has_blob(Digest.of(b""))
    assert caught.value.message.startswith(f"{secured.host} refuses the credentials")
    assert "wrong-word" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


@pytest.mark.parametrize("secured", ["token"], indirect=True)
def test_tokens(secured: RegistryServer, tmp_path: Path) -> None:
    tokens = secured.tokens
    assert tokens is not None
    auth = {"auths": {f"https://{secured.host}/v1/": {"identitytoken": tokens.identity}}}
    with Client(QUICK._replace(auth_files=(docker_config(tmp_path, auth),))) as client:
        found = repository(client, secured.host, "public/one")
        found.upload(Descriptor(OCTETS, Digest.of(b"one"), 3), bytes_body(b"one"))
        assert tokens.asked[-1]["grant_type"] == ["refresh_token"]
        count = len(tokens.asked)
        assert found.has_blob(Digest.of(b"one")) and len(tokens.asked) == count
    with Client(QUICK) as client:
        found = repository(client, secured.host, "public/one")
        assert fetched(found, Descriptor(OCTETS, Digest.of(b"one"), 3)) == b"one"
        assert tokens.asked[-1] == {"service": ["tests"], "scope": ["repository:public/one:pull"]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('Bearer realm="file:///etc/passwd"', "names a token server that cannot be asked: 'file:///etc/passwd'"),
        ('Bearer realm="nothing"', "names a token server that cannot be asked: 'nothing'"),
        ('Bearer realm="http://[::1"', "names a token server that cannot be asked"),
        ("Bearer", "names a token server that cannot be asked: ''"),
        ("Negotiate", "wants credentials for pulling some/image, and there are none"),
        ('Bearer realm="{host}/lies"', "gave no token"),
    ],
)
def test_challenges_of_liars(client: Client, proxy: FaultProxy, image: str, header: str, message: str) -> None:
    found = repository(client, proxy.host, image)
    proxy.hit("/manifests/", status(401, WWW_Authenticate=header.format(host=f"http://{proxy.host}")))
    proxy.hit("/lies", replaced(b'{"token": 7}'))
    with pytest.raises(RegistryError, match=message):
        found.manifest("1")


@pytest.mark.parametrize("seconds", ["1" + "0" * 400, "1e999", "NaN", "-1e999", "true"])
@pytest.mark.parametrize("secured", ["token"], indirect=True)
def test_tokens_that_last_for_no_time_that_there_is(secured: RegistryServer, seconds: str) -> None:
    with FaultProxy(secured.host) as proxy, Client(QUICK) as client:
        token = replaced(b'{"token": "abcdefgh", "expires_in": %s}' % seconds.encode())
        challenge = f'Bearer realm="http://{proxy.host}/token"'
        found = repository(client, proxy.host, "public/one")
        proxy.hit("/manifests/", status(401, WWW_Authenticate=challenge))
        proxy.hit("/token", token)
        # The token is sent, and is none that the registry takes.
        with pytest.raises(RegistryError, match="wants credentials for pulling public/one"):
            found.manifest("1")
        sent = [one.headers.get("Authorization") for one in proxy.passed if "/manifests/" in one.path]
        assert sent == [None, "Bearer abcdefgh"]


def test_credentials_go_to_no_other_host(registry: RegistryServer, proxy: FaultProxy, image: str, tmp_path: Path) -> None:
    """Downloads of big registries are redirected to other hosts, which have no use for our password."""
    with FaultProxy(registry.host) as elsewhere, Client(with_user(tmp_path, proxy.host)) as client:
        found = repository(client, proxy.host, image)
        proxy.hit("/manifests/", status(401, WWW_Authenticate="Basic"))
        wanted = layer(found)
        assert proxy.passed[-1].headers["Authorization"].startswith("Basic ")
        proxy.hit("/blobs/", status(307, Location=f"http://{elsewhere.host}/v2/{image}/blobs/{wanted.digest}"))
        fetched(found, wanted)
        assert proxy.passed[-1].headers["Authorization"].startswith("Basic ")
        assert ["Authorization" in one.headers for one in elsewhere.passed] == [False]
        # Nor does another host get them by asking.
        proxy.hit("/blobs/", status(307, Location=f"http://{elsewhere.host}/v2/{image}/blobs/{wanted.digest}"))
        elsewhere.hit("/blobs/", status(401, WWW_Authenticate="Basic"))
        with pytest.raises(RegistryError, match="refuses the credentials"):
            fetched(found, wanted)
        assert not any("Authorization" in one.headers for one in elsewhere.passed)


def test_what_a_registry_says_is_shown_without_secrets(proxy: FaultProxy, image: str, tmp_path: Path) -> None:
    with Client(with_user(tmp_path, proxy.host)) as client:
        found = repository(client, proxy.host, image)
        said = json.dumps({"errors": [{"message": f"the password {PASSWORD} is bad"}, {"code": "TEA\r\nPOT"}]}).encode()
        proxy.hit("/manifests/", lambda *_: ProxyAnswer(418, {"Content-Length": str(len(said))}, said))
        with pytest.raises(RegistryError) as caught:
            found.manifest("1")
    assert caught.value.message == f"{proxy.host} answered 418 for {proxy.host}/{image}: the password xxxxx is bad, TEA POT"


# TLS


def test_tls_of_this_machine(tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "tls", tls=True) as server:
        with Client(QUICK) as client, pytest.raises(RegistryError, match="self-signed certificate") as caught:
            repository(client, server.host, "a").manifest("1")
        assert "--tls-verify=false" in (caught.value.hint or "")
        with Client(QUICK._replace(tls_verify=False)) as client:
            assert repository(client, server.host, "a").manifest("1") is None


# What needs no server


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True), ("[::1]:5000", True),
        ("[::1]", True), ("a.localhost:1", True), ("docker.io", False), ("128.0.0.1", False), ("[fc00::1]:5000", False),
        ("localhost.example", False), ("notlocalhost", False),
    ],
)  # fmt: skip
def test_loopback(domain: str, expected: bool) -> None:
    assert is_loopback(domain) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Bearer realm="https://a/b?c=d,e",service="x"', [("bearer", {"realm": "https://a/b?c=d,e", "service": "x"})]),
        ('Bearer  realm = "a" , scope = x', [("bearer", {"realm": "a", "scope": "x"})]),
        ('Bearer realm="a", =', [("bearer", {"realm": "a"})]),
        (
            'bearer Realm=a,Service=b, BASIC realm="q\\"r"',
            [("bearer", {"realm": "a", "service": "b"}), ("basic", {"realm": 'q"r'})],
        ),
        ('Bearer realm="never ends', [("bearer", {"realm": "never ends"})]),
    ],
)
def test_challenges(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(one.scheme, dict(one.parameters)) for one in _parsed(text)]
    assert found == expected


def test_a_download_that_ended_a_moment_ago_can_be_cut() -> None:
    """Its connection is back in the pool, and urllib3 calls that an error of who shuts it down."""
    import urllib3

    from builder.registry.repository import _cut

    response = urllib3.HTTPResponse(body=b"", preload_content=False, sock_shutdown=lambda how: None)
    with pytest.raises(RuntimeError, match="released to the pool"):
        response.shutdown()
    _cut(response)
