"""What networks, registries and images do wrong, each met by the program with an empty store: the cases of the fault matrix.

`python -m tests.registry.registry_faults` (make faults) prints what each case gave.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.build.build_store import assert_valid
from tests.conftest import Pybuild
from tests.context.context_server import CERTIFICATE
from tests.registry.registry_images import layout, push, tar_of
from tests.registry.registry_proxy import Answer, Fault, FaultProxy, altered, dropped, replaced, stalled, status
from tests.registry.registry_server import RegistryServer

CANARY = "cana/ry+p&ssw0rd"
"""The password that is known for every registry here; it may be in nothing that anybody gets to see."""
TOKEN = "canary-token-abcdef"
USER = "canary"
BASIC = base64.b64encode(f"{USER}:{CANARY}".encode()).decode()
SECRETS = (CANARY, BASIC, TOKEN, "cana%2Fry%2Bp%26ssw0rd", "cana/ry%2Bp%26ssw0rd", "canary-refresh")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_LARGE = random.Random(7).randbytes(600_000)

IMPATIENT = """
import sys
from builder.engine import unpacked
from builder.registry.access import Limits, RegistryAccess
# All that the program has but hours: minutes of patience are parts of a second here, and gigabytes of allowance one megabyte.
idle = float(sys.argv.pop(1))
limits = Limits(connect=30, idle=idle, verify=idle, attempts=3, backoff=0.001, longest_wait=0.05)
RegistryAccess._field_defaults["limits"] = limits
unpacked.GROWS = 1 << 20
sys.argv[0] = "pybuild"
from builder.cli.main import main
main()
"""


_SHORT = 4
"""Of a server that falls silent; longer than any that does not, on a busy machine too."""


class Scene(NamedTuple):
    """What a case has to play with."""

    proxy: FaultProxy
    """In front of the registry, which has `image:1` of two layers."""
    folder: Path
    """The image as a layout."""
    elsewhere: FaultProxy
    """Another host, where the same image is."""
    target: str
    """The repository to push to."""

    def manifest(self) -> dict[str, object]:
        index = json.loads((self.folder / "index.json").read_bytes())
        found: dict[str, object] = json.loads(self.blob(index["manifests"][0]["digest"]))
        return found

    def blob(self, digest: str) -> bytes:
        return (self.folder / "blobs" / digest.replace(":", "/")).read_bytes()

    def says(self, body: Mapping[str, object] | bytes, kind: str = MANIFEST) -> None:
        """The registry has another manifest under the tag."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.proxy.hit("GET /v2/image/manifests/1", replaced(data, Content_Type=kind), 9)

    def layered(self, data: bytes, kind: str = f"{LAYER}+gzip", diff_id: str = "", **more: object) -> None:
        """The image has one layer, which is this."""
        diff_id = diff_id or "sha256:" + hashlib.sha256(_plain(data)).hexdigest()
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
        described = []
        for body, what in ((config, CONFIG), (data, kind)):
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            self.proxy.hit(f"GET /v2/image/blobs/{digest}", replaced(body), 9)
            described.append({"mediaType": what, "digest": digest, "size": len(body), **more})
        self.says({"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]})


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _plain(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data


class Case(NamedTuple):
    name: str
    set_up: Callable[[Scene], object]
    args: tuple[str, ...] = ("pull", "{host}/image:1")
    tls: bool = False
    settings: str = ""
    idle: float = 30
    """Seconds of silence that are borne."""
    room: int = 0
    """Bytes of the file system that the store is on; 0 for as much as there is."""


class Outcome(NamedTuple):
    case: str
    code: int
    said: str
    """Without progress, and without what differs from run to run."""
    whole: str
    """All that came out, as it was."""
    holds: str


def _challenge(scene: Scene, what: str = "/manifests/", times: int = 1, **parameters: str) -> None:
    scheme = "https" if scene.proxy.tls else "http"
    realm = parameters.pop("realm", f"{scheme}://{scene.proxy.host}/token")
    text = ",".join(f'{name}="{value}"' for name, value in {"realm": realm, "service": "s", **parameters}.items())
    scene.proxy.hit(what, status(401, WWW_Authenticate=f"Bearer {text}"), times)


def _token(scene: Scene, fault: Fault, times: int = 9, **parameters: str) -> None:
    _challenge(scene, times=9, **parameters)
    scene.proxy.hit("/token", fault, times)


def _good(_: object, answer: Answer) -> Answer:
    return answer


def _once_again(scene: Scene) -> None:
    """A token that is old when the layers are fetched."""
    _challenge(scene)
    scene.proxy.hit("/token", replaced(json.dumps({"token": TOKEN}).encode()), 9)
    scene.proxy.hit("/blobs/", _good)
    _challenge(scene, "/blobs/")


def _says(status_code: int, text: str) -> Fault:
    body = json.dumps({"errors": [{"code": "DENIED", "message": text}]}).encode()
    return lambda *_: Answer(status_code, {"Content-Length": str(len(body))}, body)


def _endless(_: object, answer: Answer) -> Answer:
    return Answer(200, {"Transfer-Encoding": "identity"}, b"{" + b" " * (5 << 20))


def _size_of(scene: Scene, difference: int) -> None:
    layers = scene.manifest()["layers"]
    assert isinstance(layers, list)
    _layer_says(scene, size=layers[0]["size"] + difference)


def _layer_says(scene: Scene, **what: object) -> None:
    """The descriptor of the lowest layer has something else."""
    body = scene.manifest()
    layers = body["layers"]
    assert isinstance(layers, list)
    layers[0] |= what
    scene.says(body)


def _config_says(scene: Scene, **what: object) -> None:
    body = scene.manifest()
    config = body["config"]
    assert isinstance(config, dict)
    scene.says({**body, "config": {**config, **what}})


_PUSH = ("push", "image", "{host}/{target}:1")


def cases() -> Iterator[Case]:
    gets = "GET /v2/image/manifests/1"
    layers = "GET /v2/image/blobs/"
    yield Case("nothing is wrong", lambda scene: None)
    # Manifests
    yield Case("a manifest with one bit changed", lambda scene: scene.proxy.hit(gets, altered))
    yield Case("a manifest that breaks off, each time", lambda scene: scene.proxy.hit(gets, dropped(9), 9))
    yield Case(
        "a manifest of 500 MB, as its header says",
        lambda scene: scene.proxy.hit(gets, lambda *_: Answer(200, {"Content-Length": str(500 << 20)}, b"{", cut=1)),
    )
    yield Case("a manifest without end", lambda scene: scene.proxy.hit(gets, _endless))
    yield Case("a manifest of an unknown type", lambda scene: scene.says(b'{"schemaVersion": 2}', "application/vnd.x.thing"))
    yield Case("a manifest of schema 1", lambda scene: scene.says(b'{"schemaVersion": 1, "fsLayers": []}', "application/json"))
    yield Case("a manifest that is a web page", lambda scene: scene.says(b"<html>sign in</html>", "text/html"))
    yield Case("no such image", lambda scene: scene.proxy.hit(gets, status(404)))
    yield Case(
        "an index without this platform",
        lambda scene: scene.says(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [
                    {"mediaType": MANIFEST, "digest": f"sha256:{'1' * 64}", "size": 9, "platform": _platform("s390x")}
                ],
            },
            INDEX,
        ),
    )
    yield Case("an index in itself, again and again", _nested)
    yield Case("an index whose image is lost", _lost)
    yield Case("a manifest whose layer has a size below zero", lambda scene: _size_of(scene, -(1 << 40)))
    yield Case("a manifest whose layer has a name that is no digest", lambda scene: _layer_says(scene, digest="sha256:../../a"))
    yield Case("a manifest that is packed on the way, and unpacks to far more", _swollen)
    yield Case("a config that is larger than any", lambda scene: _config_says(scene, size=500 << 20))
    yield Case("a config that is no JSON", _no_config)
    yield Case("a tag that moves between resolve and pull", _moving)
    yield Case("fewer layers than the config has", lambda scene: scene.says({**scene.manifest(), "layers": []}))
    # Blobs
    yield Case("a layer with one bit changed", lambda scene: scene.proxy.hit(_layer(scene, 0), altered, 9))
    yield Case(
        "a layer that is longer than its descriptor says",
        lambda scene: scene.proxy.hit(_layer(scene, 0), lambda _, a: a._replace(body=a.body + b"x", headers={}), 9),
    )
    yield Case(
        "a layer that is shorter",
        lambda scene: scene.proxy.hit(_layer(scene, 0), lambda _, a: Answer(200, {}, a.body[:1000]), 9),
    )
    yield Case("a descriptor with another size", lambda scene: _size_of(scene, -1))
    yield Case("a layer that breaks off, and comes the second time", lambda scene: scene.proxy.hit(layers, dropped(200_000)))
    yield Case("a layer that breaks off at once, each time", lambda scene: scene.proxy.hit(_layer(scene, 0), dropped(0), 9))
    yield Case(
        "a layer that stalls in the middle, and goes on",
        lambda scene: scene.proxy.hit(_layer(scene, 0), stalled(300_000)),
        idle=_SHORT,
    )
    yield Case("a layer that stalls, each time", lambda scene: scene.proxy.hit(_layer(scene, 0), stalled(0), 9), idle=_SHORT)
    yield Case("a layer that is not there", lambda scene: scene.proxy.hit(_layer(scene, 0), status(404), 9))
    yield Case("a layer that is no gzip", lambda scene: scene.layered(b"\x1f\x8b\x08 nothing of the kind" * 40))
    yield Case("a layer that is no tar", lambda scene: scene.layered(_packed(b"no tar" * 200)))
    yield Case("a layer that is cut short", lambda scene: scene.layered(_packed(_LARGE)[:4000], diff_id=f"sha256:{'2' * 64}"))
    yield Case(
        "a layer of another diff ID",
        lambda scene: scene.layered(_packed(tar_of({"a": b""})), diff_id=f"sha256:{'3' * 64}"),
    )
    yield Case("a layer that leads out", lambda scene: scene.layered(_packed(tar_of({"../a": b""}))))
    yield Case("a layer that unpacks to far more", lambda scene: scene.layered(_packed(bytes(8 << 20))))
    yield Case("a layer that is packed on the way, and unpacks to far more", _swollen_layer)
    yield Case("a layer that is encrypted", lambda scene: scene.layered(b"secret", f"{LAYER}+gzip+encrypted"))
    yield Case(
        "a layer that lies elsewhere, and is here",
        lambda scene: (
            scene.layered(_packed(tar_of({"a": b""})), f"{LAYER}.nondistributable", urls=["http://127.0.0.1:1/layer"]),
        ),
    )
    yield Case("a layer that lies elsewhere, and is not here", _away)
    yield Case(
        "a layer of bzip2",
        lambda scene: scene.layered(
            bz2.compress(tar_of({"a": b""})), diff_id=f"sha256:{hashlib.sha256(tar_of({'a': b''})).hexdigest()}"
        ),
    )
    # Servers
    yield Case("redirects without end", lambda scene: scene.proxy.hit(gets, status(307, Location="/v2/image/manifests/1"), 20))
    yield Case("a redirect to a file", lambda scene: scene.proxy.hit(gets, status(307, Location="file:///etc/passwd")))
    yield Case(
        "a redirect with a password",
        lambda scene: scene.proxy.hit(gets, status(307, Location=f"http://{USER}:{TOKEN}@127.0.0.1:1/x?X-Sig={TOKEN}")),
    )
    yield Case("layers on another host", _moved)
    yield Case("429 with seconds, once", lambda scene: scene.proxy.hit(gets, status(429, Retry_After="1")))
    yield Case(
        "429 with a date, each time",
        lambda scene: scene.proxy.hit(gets, status(429, Retry_After="Wed, 01 Jan 2200 00:00:00 GMT"), 9),
    )
    yield Case("500, once", lambda scene: scene.proxy.hit(gets, status(500)))
    yield Case("500, each time", lambda scene: scene.proxy.hit(gets, status(500), 9))
    yield Case("an error that quotes the credentials", _quoting)
    yield Case("a registry that is silent", lambda scene: scene.proxy.hit("GET /v2/image", stalled(0), 9), idle=_SHORT)
    yield Case("a registry that is down", lambda scene: None, ("pull", "127.0.0.1:1/image:1"))
    yield Case(
        "a registry that is down, with a mirror",
        lambda scene: None,
        ("pull", "127.0.0.1:1/image:1"),
        settings='[registry."127.0.0.1:1"]\nmirrors = ["{host}"]\n',
    )
    yield Case(
        "a registry and its mirrors that are down",
        lambda scene: None,
        ("pull", "127.0.0.1:1/image:1"),
        settings='[registry."127.0.0.1:1"]\nmirrors = ["127.0.0.1:2", "127.0.0.1:3"]\n',
    )
    yield Case(
        "a mirror with other bytes",
        lambda scene: scene.proxy.hit(_layer(scene, 0), altered, 9),
        ("pull", "{elsewhere}/image:1"),
        settings='[registry."{elsewhere}"]\nmirrors = ["{host}"]\n',
    )
    # Who we are
    good = replaced(json.dumps({"token": TOKEN}).encode())
    yield Case(
        "a challenge of no kind that is known", lambda scene: scene.proxy.hit(gets, status(401, WWW_Authenticate="Negotiate"))
    )
    yield Case("a token server that is no URL", lambda scene: _challenge(scene, realm="file:///etc/passwd"))
    yield Case("a token server with a password in it", lambda scene: _challenge(scene, realm=f"http://a:{TOKEN}@127.0.0.1:1/"))
    yield Case("a token server by plain HTTP", lambda scene: _challenge(scene, realm="http://127.0.0.1:1/token"), tls=True)
    yield Case("a token server that is down", lambda scene: _challenge(scene, realm="http://127.0.0.1:1/token"))
    yield Case("a token server with a web page", lambda scene: _token(scene, replaced(b"<html>")))
    yield Case("a token server with another JSON", lambda scene: _token(scene, replaced(b'{"token": {"a": 1}}')))
    yield Case("a token server with megabytes", lambda scene: _token(scene, replaced(b" " * (2 << 20))))
    yield Case("a token server that fails", lambda scene: _token(scene, status(500)))
    yield Case("a token server that refuses", lambda scene: _token(scene, status(401)))
    yield Case(
        "a token server that quotes the credentials", lambda scene: _token(scene, _says(403, f"{USER}:{CANARY} {BASIC}"))
    )
    yield Case("a token server that is silent", _silent, idle=_SHORT)
    yield Case(
        "a token server that leads elsewhere",
        _led,
    )
    yield Case("a token that is good for something else", lambda scene: _token(scene, good))
    yield Case("a token that is old midway", _once_again)
    yield Case("a password that is wrong", lambda scene: scene.proxy.hit(gets, status(401, WWW_Authenticate="Basic"), 9))
    # Pushing
    yield Case("a push", lambda scene: None, _PUSH)
    yield Case("an upload that fails, once", lambda scene: scene.proxy.hit(_uploads(scene), status(500)), _PUSH)
    yield Case("uploads that arrive, and break off", lambda scene: scene.proxy.hit(_uploads(scene), dropped(0), 40), _PUSH)
    yield Case("uploads that are lost, each time", lambda scene: scene.proxy.late(_uploads(scene), 0, 40, lose=True), _PUSH)
    yield Case("an upload whose answer is late", lambda scene: scene.proxy.late(_uploads(scene), 60), _PUSH, idle=_SHORT)
    yield Case(
        "uploads that are too large",
        lambda scene: scene.proxy.hit(_uploads(scene), _says(413, "quota"), 40),
        _PUSH,
    )
    yield Case(
        "uploads that are to go to a file",
        lambda scene: scene.proxy.hit("POST", status(202, Location="file:///tmp/x"), 40),
        _PUSH,
    )
    yield Case(
        "a manifest that is refused",
        lambda scene: scene.proxy.hit(f"PUT /v2/{scene.target}/manifests", _says(400, "no"), 3),
        _PUSH,
    )
    yield Case("who may not push", lambda scene: scene.proxy.hit(f"/v2/{scene.target}/", status(403), 40), _PUSH)
    # The disk
    yield Case("a disk that fills up", lambda scene: None, room=400 << 10)


def _uploads(scene: Scene) -> str:
    return f"PUT /v2/{scene.target}/blobs"


def _platform(architecture: str) -> dict[str, str]:
    return {"os": "linux", "architecture": architecture}


def _layer(scene: Scene, number: int) -> str:
    found = scene.manifest()["layers"]
    assert isinstance(found, list)
    return f"GET /v2/image/blobs/{found[number]['digest']}"


def _nested(scene: Scene) -> None:
    """Each index is the next one's only image."""
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    for _ in range(6):
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        scene.proxy.hit(f"GET /v2/image/manifests/{digest}", replaced(body, Content_Type=INDEX), 9)
        platform = _platform({"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine])
        inner = {"mediaType": INDEX, "digest": digest, "size": len(body), "platform": platform}
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).encode()
    scene.says(body, INDEX)


def _lost(scene: Scene) -> None:
    platform = _platform({"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine])
    one = {"mediaType": MANIFEST, "digest": f"sha256:{'1' * 64}", "size": 9, "platform": platform}
    scene.says(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one]}).encode(), INDEX)


def _no_config(scene: Scene) -> None:
    data = b"<html>"
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    scene.proxy.hit(f"GET /v2/image/blobs/{digest}", replaced(data), 9)
    _config_says(scene, digest=digest, size=len(data))


def _swollen(scene: Scene) -> None:
    """Few bytes of HTTP, many of JSON."""
    body = gzip.compress(b"{" + b" " * (64 << 20), mtime=0)
    headers = {"Content-Type": MANIFEST, "Content-Encoding": "gzip", "Content-Length": str(len(body))}
    scene.proxy.hit("GET /v2/image/manifests/1", lambda *_: Answer(200, headers, body), 9)


def _swollen_layer(scene: Scene) -> None:
    body = gzip.compress(bytes(64 << 20), mtime=0)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    scene.proxy.hit(_layer(scene, 0), lambda *_: Answer(200, headers, body), 9)


def _moving(scene: Scene) -> None:
    """The tag is asked once: whoever asks again gets something else."""
    tag = "/v2/image/manifests/1"
    scene.proxy.hit(tag, _good)
    other = b'{"schemaVersion": 2, "fsLayers": []}'
    scene.proxy.hit(tag, replaced(other, Content_Type=MANIFEST), 9)


def _away(scene: Scene) -> None:
    scene.proxy.hit(_layer(scene, 0), status(404), 9)
    body = scene.manifest()
    layers = body["layers"]
    assert isinstance(layers, list)
    layers[0] |= {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": ["http://127.0.0.1:1/"]}
    scene.says(body)


def _silent(scene: Scene) -> None:
    _challenge(scene)
    scene.proxy.late("/token", 60)


def _led(scene: Scene) -> None:
    _challenge(scene)
    scene.proxy.hit("/token", status(307, Location=f"http://{scene.elsewhere.host}/token"))
    scene.elsewhere.hit("/token", replaced(json.dumps({"token": TOKEN}).encode()))


def _moved(scene: Scene) -> None:
    def leads(passed: object, _: Answer) -> Answer:
        path = passed.path  # type: ignore[attr-defined]  # a request that passed
        return Answer(307, {"Location": f"http://{scene.elsewhere.host}{path}", "Content-Length": "0"}, b"")

    scene.proxy.hit("/manifests/", status(401, WWW_Authenticate="Basic"))
    scene.proxy.hit("/blobs/", leads, 9)


def _quoting(scene: Scene) -> None:
    scene.proxy.hit("/manifests/", status(401, WWW_Authenticate="Basic"))
    scene.proxy.hit("/manifests/", _says(418, f"{CANARY} of {USER} as {BASIC}"))


_SHOWN = {"host": "registry.example", "elsewhere": "elsewhere.example", "target": "pushed"}


class Matrix:
    """Runs cases against one registry."""

    def __init__(self, folder: Path, registry: RegistryServer) -> None:
        self._folder = folder
        self._registry = registry
        self._image = layout(folder / "layout", [{"large": _LARGE}, {"small": b"small"}])
        push(self._image, f"{registry.host}/image:1")
        self._certificates = folder / "certs"
        self._certificates.mkdir()
        for name in ("ca.crt", "both.pem"):
            (self._certificates / name).write_text(CERTIFICATE)
        self._pushable = folder / "pushable"
        home = folder / "home"
        home.mkdir()
        pybuild = Pybuild(self._pushable, home)
        for args in (("pull", "-q", f"{registry.host}/image:1"), ("tag", f"{registry.host}/image:1", "image")):
            done = pybuild(*args)
            assert done.returncode == 0, done.stderr

    def run(self, case: Case) -> Outcome:
        folder = self._folder / re.sub(r"\W+", "-", case.name)
        home = folder / "home"
        target = f"pushed/{folder.name}"
        (home / ".config/pybuild").mkdir(parents=True)
        store = folder / "store"
        if case.args == _PUSH:
            shutil.copytree(self._pushable, store, symlinks=True)
        with ExitStack() as stack:
            certificate = self._certificates / "both.pem" if case.tls else None
            proxy = stack.enter_context(FaultProxy(self._registry.host, certificate))
            elsewhere = stack.enter_context(FaultProxy(self._registry.host))
            if case.room:
                store.mkdir()
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={case.room}", "tmpfs", store], check=True)
                stack.callback(_unmount, store)
            hosts = {"host": proxy.host, "elsewhere": elsewhere.host, "target": target}
            auths = {name: {"auth": BASIC} for name in (proxy.host, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")}
            (home / "auth.json").write_text(json.dumps({"auths": auths}))
            if case.settings:
                text = case.settings
                for name, value in hosts.items():
                    text = text.replace(f"{{{name}}}", value)
                (home / ".config/pybuild/registries.toml").write_text(text)
            case.set_up(Scene(proxy, self._image, elsewhere, target))
            args = [arg.format(**hosts) for arg in case.args]
            if case.tls:
                args.insert(1, f"--cert-dir={self._certificates}")
            environment = Pybuild(store, home).environment({"REGISTRY_AUTH_FILE": str(home / "auth.json"), "CI": "1"})
            done = subprocess.run(
                [sys.executable, "-c", IMPATIENT, str(case.idle), *args],
                env=environment,
                cwd=home,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )
            assert not any("Authorization" in one.headers for one in elsewhere.passed), case.name
            if case.room:
                # What was there when the database had no room is found again by those who need it.
                assert os.listdir(store / "tmp") == []
            else:
                assert_valid(store)
            said = self._shown(done.stderr, {**hosts, "store": str(store), "folder": str(folder)})
            return Outcome(case.name, done.returncode, said, done.stdout + done.stderr, _holds(store))

    def _shown(self, text: str, names: Mapping[str, str]) -> str:
        lines = [line for line in text.splitlines() if not re.match(r"(pulling|pushing|#\d+) ", line)]
        shown = "\n".join(lines)
        for name, value in names.items():
            shown = shown.replace(value, _SHOWN.get(name, name.upper()))
        shown = re.sub(r"uploads/[0-9a-f-]{36}", "uploads/...", shown)
        # What compresses is not the same everywhere.
        return re.sub(r"\d{6,} bytes", "N bytes", re.sub(r"sha256:[0-9a-f]{64}", "sha256:...", shown))


def _unmount(place: Path) -> None:
    subprocess.run(["umount", place], check=True)


def _holds(store: Path) -> str:
    database = sqlite3.connect(store / "db.sqlite")
    try:
        names = [str(name).rpartition("/")[2] for (name,) in database.execute("SELECT name FROM images ORDER BY name")]
    finally:
        database.close()
    return ", ".join(dict.fromkeys(names)) or "no image"


def outcomes(folder: Path, registry: RegistryServer) -> list[Outcome]:
    matrix = Matrix(folder, registry)
    # Silence costs nothing but time: who waits for it takes no turn of others.
    with ThreadPoolExecutor(2) as threads, ThreadPoolExecutor(6) as waiting:
        running = [(waiting if case.idle == _SHORT else threads).submit(matrix.run, case) for case in cases()]
        return [each.result() for each in running]


def table(found: list[Outcome]) -> str:
    parts = []
    for each in found:
        lines = "".join(f"    {line}\n" for line in each.said.splitlines())
        parts.append(f"{each.case}\n    exit code {each.code}; the store holds {each.holds}\n{lines}")
    return "\n".join(parts)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, RegistryServer(Path(folder) / "registry") as registry:
        (Path(folder) / "cases").mkdir()
        sys.stdout.write(table(outcomes(Path(folder) / "cases", registry)))


if __name__ == "__main__":
    main()
