"""How long servers and name servers are waited for, and what is done again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cancellation import Cancellation
from builder.errors import Interrupted, RegistryError
from builder.oci.digest import Descriptor, Digest
from builder.registry.access import Limits, RegistryAccess
from builder.registry.auth import bytes_body
from builder.registry.client import Client
from builder.registry.http import Http
from tests.registry.registry_images import layout, push
from tests.registry.registry_proxy import FaultProxy, stalled, status
from tests.registry.registry_server import RegistryServer
from tests.registry.test_registry_client import OCTETS, layer, repository

PATIENT = Limits(connect=30, idle=30, verify=30, backoff=0.001)
SHORT = 3.0
"""Of what comes nothing needs as long, on a busy machine too."""


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[FaultProxy]:
    with FaultProxy(registry.host) as running:
        yield running


# In namespaces of its own: a name server that never answers, and nothing else on the network.
DEAD_RESOLVER = """
    import socket
    from builder.errors import RegistryError
    from builder.http.names import addresses
    from builder.oci.reference import Reference
    from builder.registry.access import Limits, RegistryAccess
    from builder.registry.client import Client

    dead = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind(("127.0.0.1", 53))
    try:
        with Client(RegistryAccess(limits=Limits(connect=0.2))) as client:
            client.repository(Reference.parse("registry.example/a")).manifest("1")
    except RegistryError as error:
        print(error.message, error.hint, sep="\\n")
    # A number needs no name server.
    print(addresses("127.0.0.1", 80, 9), addresses("::1", 80, 9))
"""


def test_name_servers_that_do_not_answer(tmp_path: Path) -> None:
    settings = tmp_path / "resolv.conf"
    settings.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:9\n")
    script = (
        f'mount --bind {settings} "$(readlink -f /etc/resolv.conf)"\n'
        f"exec {sys.executable} -c '{textwrap.dedent(DEAD_RESOLVER)}'\n"
    )
    lo_up = "import fcntl, socket, struct\nfcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x49))"
    script = f'{sys.executable} -c "{lo_up}"\n{script}'
    done = subprocess.run(["unshare", "-n", "-m", "sh", "-ec", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "https://registry.example/v2/a/manifests/1: the name 'registry.example' cannot be looked up: "
        "the name servers do not answer",
        "check the network and /etc/resolv.conf, or try again later",
        "['127.0.0.1'] ['::1']",
    ], done.stderr


def test_a_download_that_is_silent_from_the_start_is_tried_twice(proxy: FaultProxy, tmp_path: Path) -> None:
    push(layout(tmp_path / "layout", [{"a": b"a" * 50_000}]), f"{proxy.host}/silent:1")
    with Client(RegistryAccess(limits=PATIENT._replace(idle=SHORT))) as client:
        found = repository(client, proxy.host, "silent")
        wanted = layer(found)
        asked = len(proxy.passed)
        proxy.hit("/blobs/", stalled(0), times=9)
        with pytest.raises(RegistryError, match=r"the server did not answer for 3 s"):
            found.blob(wanted, lambda _: None)
        assert len(proxy.passed) - asked == 2


def test_a_wait_that_a_registry_asks_for_is_told(proxy: FaultProxy) -> None:
    stop, told = Cancellation(), []

    def notice(message: str) -> None:
        told.append(message)
        # A test does not wait that long.
        stop.cancel()

    proxy.hit("manifests", status(429, Retry_After="20"))
    with Client(RegistryAccess(stop=stop, notice=notice)) as client, pytest.raises(Interrupted):
        repository(client, proxy.host, "waits").manifest("1")
    assert told == ["127.0.0.1 answered 429: it is asked again in 20 s"]


def test_an_answer_whose_head_comes_byte_by_byte() -> None:
    """No silence is as long as is borne, and yet nothing comes."""
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(9999)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        http = Http(RegistryAccess(limits=PATIENT._replace(idle=1)), "127.0.0.1", set())
        try:
            with pytest.raises(RegistryError, match="the server did not answer for 1 s"):
                http.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}/v2/", {})
        finally:
            over.set()
            http.close()


def test_an_upload_that_arrived_is_not_sent_again(proxy: FaultProxy) -> None:
    data = b"slowly verified"
    descriptor = Descriptor(OCTETS, Digest.of(data), len(data))
    told: list[int] = []
    with Client(RegistryAccess(limits=PATIENT._replace(verify=SHORT))) as client:
        found = repository(client, proxy.host, "up/slow")
        proxy.late("PUT", 60)
        assert found.upload(descriptor, bytes_body(data)._replace(told=told.append))
        assert told[-1] == len(data)
        sent = [one.method for one in proxy.passed if "/up/slow/blobs/" in one.path]
        assert sent == ["POST", "PUT", "HEAD"]


def test_an_upload_that_is_never_answered_ends(proxy: FaultProxy) -> None:
    data = b"never there"
    descriptor = Descriptor(OCTETS, Digest.of(data), len(data))
    with Client(RegistryAccess(limits=PATIENT._replace(verify=0.5))) as client:
        found = repository(client, proxy.host, "up/never")
        proxy.late("PUT", 60, times=9, lose=True)
        with pytest.raises(RegistryError, match=r"the server did not answer for 0\.5 s"):
            found.upload(descriptor, bytes_body(data))
    assert [one.method for one in proxy.passed if "/up/never/" in one.path] == ["POST", "PUT", "HEAD"] * 2
