"""Manifests and blobs of one repository (OCI distribution-spec 1.1, "Endpoints")."""

from __future__ import annotations

import hashlib

from builder.errors import BuildError, RegistryError
from builder.http.addresses import origin
from builder.oci.digest import Digest
from builder.oci.image import INDEX_TYPE
from builder.registry.auth import asked, bytes_body
from builder.registry.http import TRANSIENT, Broken, done, shown
from builder.registry.manifests import ACCEPTED, LIMIT, Raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import urllib3

    from builder.oci.digest import Descriptor
    from builder.registry.access import RegistryAccess
    from builder.registry.auth import Auth
    from builder.registry.http import Answer, Body, Http

_CHUNK = 1 << 18
_ERROR_LIMIT = 1 << 16
# However little each connection brings.
_MOST_RESUMES = 100
_MORE = 5
_MANIFEST_ATTEMPTS = 3
_ELSEWHERE = (
    "its type says that registries may not have it, and no other place is asked: push the image again with all its layers"
)


class BadBlob(RegistryError):
    """The registry answers, but has another blob than it should, or none."""


class Repository:
    """One repository of a registry. Methods raise RegistryError for all that network and registry do wrong."""

    def __init__(self, http: Http, auth: Auth, base: str, domain: str, path: str, access: RegistryAccess) -> None:
        self._http = http
        self._auth = auth
        self._base = base
        self._limits = access.limits
        self._stop = access.stop
        self.domain = domain
        self.path = path

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    # Manifests

    def manifest(self, tag: str | Digest, *, push: bool = False) -> Raw | None:
        """None where the registry has none, or no such repository (or does not say so to us). `push`: for those who go on to
        push, and whom it is allowed."""
        for attempt in range(1, self._limits.attempts + 1):
            try:
                return self._manifest(tag, push=push)
            except Broken:
                if attempt == self._limits.attempts:
                    raise
            self._http.nap(self._http.backoff(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _manifest(self, tag: str | Digest, *, push: bool) -> Raw | None:
        url = f"{self._base}{self.path}/manifests/{tag}"
        answer = self._request("GET", url, push=push, headers={"Accept": ", ".join(ACCEPTED)})
        response = answer.response
        if response.status == 404:
            done(response)
            return None
        self._check(response.status, answer, (200,))
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > LIMIT):
            response.close()
            raise self._http.error(
                f"the manifest of {self.name} is larger than {LIMIT >> 20} MiB", hint="is it an image at all?"
            )
        data = self._http.read(response, LIMIT, url)
        said = tag if isinstance(tag, Digest) else _digest(response.headers.get("Docker-Content-Digest", ""))
        digest = Digest(said.algorithm, hashlib.new(said.algorithm, data).hexdigest()) if said else Digest.of(data)
        if said is not None and digest != said:
            raise self._http.error(
                f"{self.domain} sent a manifest of {self.name} that is not {said}: it has {digest}",
                hint="the registry, or something on the way to it, is damaged or hostile",
            )
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return Raw(data, media_type, digest)

    def put_manifest(self, tag: str | Digest, data: bytes, media_type: str) -> bool:
        """Its blobs must be there. Whether the registry lists it with the referrers of its subject."""
        url = f"{self._base}{self.path}/manifests/{tag}"
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            answer = self._request("PUT", url, push=True, headers={"Content-Type": media_type}, body=bytes_body(data))
            if answer.response.status != 400 or attempt == _MANIFEST_ATTEMPTS:
                break
            # distribution says so, too, where another one puts the same blobs at the same time: it reads what is half written.
            done(answer.response)
            self._http.nap(self._http.backoff(attempt))
        self._check(answer.response.status, answer, (200, 201))
        lists = bool(answer.response.headers.get("OCI-Subject"))
        done(answer.response)
        return lists

    def referrers(self, subject: Digest) -> bytes | None:
        """The index of the manifests that refer to this one; None where the registry does not list them."""
        url = f"{self._base}{self.path}/referrers/{subject}"
        answer = self._request("GET", url, headers={"Accept": INDEX_TYPE})
        response = answer.response
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if response.status == 404 or (response.status == 200 and kind != INDEX_TYPE):
            # Some that do not know the endpoint answer with a page of theirs.
            done(response)
            return None
        self._check(response.status, answer, (200,))
        return self._http.read(response, LIMIT, url)

    # Blobs

    def blob(self, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        """Write a blob in pieces. A connection that breaks is followed by one that goes on where it ended; what was written
        counts once this returns: size and digest are right then."""
        url = f"{self._base}{self.path}/blobs/{descriptor.digest}"
        sink = _Sink(self, descriptor, write)
        attempt = resumes = silent = 0
        while sink.size < descriptor.size or not resumes:
            before = sink.size
            broken = self._piece(url, sink)
            if broken is None:
                break
            resumes += 1
            attempt = 1 if sink.size > before else attempt + 1
            silent += is_silence(broken)
            # Each silence was waited for as long as is borne.
            patience = self._limits.silences * (1 if attempt > 1 else _MORE)
            if attempt >= self._limits.attempts or resumes > _MOST_RESUMES or silent >= patience:
                raise broken
            self._http.nap(self._http.backoff(attempt))
        sink.check()

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob, whole."""
        if descriptor.size > limit:
            raise self._http.error(f"the blob {descriptor.digest} of {self.name} is larger than {limit >> 20} MiB")
        parts: list[bytes] = []
        self.blob(descriptor, parts.append)
        return b"".join(parts)

    def has_blob(self, digest: Digest) -> bool:
        url = f"{self._base}{self.path}/blobs/{digest}"
        answer = self._request("HEAD", url, push=True)
        done(answer.response)
        if answer.response.status == 404:
            return False
        self._check(answer.response.status, answer, (200,))
        return True

    def upload(self, descriptor: Descriptor, body: Body, source: str = "") -> bool:
        """Put a blob there; False where the registry took it over from `source`, another repository of it, and no byte went."""
        silent = 0
        for attempt in range(1, self._limits.attempts + 1):
            try:
                location = self._begin(descriptor.digest, source)
            except RegistryError:
                if not source:
                    raise
                # We may not read there, and some registries refuse instead of asking for the blob.
                source = ""
                location = self._begin(descriptor.digest, source)
            if not location:
                return False
            url = f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"
            headers = {"Content-Type": "application/octet-stream"}
            try:
                answer = self._request("PUT", url, push=True, headers=headers, body=body, once=True)
            except RegistryError as error:
                # It may have taken all, and been too slow to say so.
                if isinstance(error.__cause__, _lost()) and self._has_quietly(descriptor.digest):
                    body.told(descriptor.size)
                    return True
                silent += is_silence(error)
                if attempt == self._limits.attempts or silent == self._limits.silences:
                    raise
            else:
                status = answer.response.status
                if status == 400 and attempt == 1:
                    # distribution says so to one of two that put the same blob at the same time: the other one's is there.
                    done(answer.response)
                    if self._has_quietly(descriptor.digest):
                        return True
                elif attempt == self._limits.attempts or status not in TRANSIENT:
                    self._check(answer.response.status, answer, (200, 201, 204))
                    done(answer.response)
                    return True
                else:
                    done(answer.response)
            # What became of the first attempt nobody knows: a new session, and all again.
            self._http.nap(self._http.backoff(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _has_quietly(self, digest: Digest) -> bool:
        """Whether the blob is there; False where nobody says so."""
        try:
            return self.has_blob(digest)
        except RegistryError:
            return False

    def _begin(self, digest: Digest, source: str) -> str:
        """The address of an upload; empty where the blob was mounted instead."""
        from urllib.parse import quote, urljoin

        url = f"{self._base}{self.path}/blobs/uploads/"
        mount = f"?mount={digest}&from={quote(source, safe='')}" if source else ""
        also = (f"repository:{source}:pull",) if source else ()
        answer = self._request("POST", url + mount, push=True, also=also)
        done(answer.response)
        if source and answer.response.status == 201:
            return ""
        self._check(answer.response.status, answer, (202,))
        given = answer.response.headers.get("Location", "")
        try:
            location = urljoin(answer.url, given)
            scheme, host, _ = origin(location)
        except ValueError:
            scheme = host = ""
        if scheme not in ("http", "https") or not host:
            raise self._http.error(
                f"{self.domain} wants uploads at '{shown(given)[:200]}', which is no URL",
                hint="the registry is set up wrongly",
            )
        if location.startswith("http:") and url.startswith("https:"):
            # A registry behind a proxy that ends TLS, and does not tell it so.
            location = "https:" + location.removeprefix("http:")
        return location

    def _piece(self, url: str, sink: _Sink) -> RegistryError | None:
        """As much of a blob as one connection brings; what broke it."""
        begun = sink.size
        answer = self._request("GET", url, headers={"Range": f"bytes={begun}-"} if begun else {})
        response = answer.response
        if response.status == 404:
            done(response)
            hint = _ELSEWHERE if _is_foreign(sink.media_type) else "push the image again"
            raise BadBlob(f"{self.domain} has no blob {sink.digest} of {self.name}", hint=hint)
        self._check(response.status, answer, (200, 206) if begun else (200,))
        sink.skip = 0
        if begun and response.status == 200:
            # It does not know ranges.
            sink.skip = begun
        elif begun and not response.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            response.close()
            raise self._http.error(f"{self.domain} answered a range of {sink.digest} by another one")
        try:
            with self._http.told(url), self._stop.ending(lambda: _cut(response)):
                while chunk := response.read1(_CHUNK, decode_content=False):
                    self._stop.check()
                    sink.write(chunk)
        except RegistryError as error:
            if error.__cause__ is None:
                raise
            return error
        finally:
            response.close()
        if sink.size < sink.expected:
            return BadBlob(f"{self.domain} sent less of the blob {sink.digest} than it has", hint="push the image again")
        return None

    # Requests

    def _request(
        self,
        method: str,
        url: str,
        *,
        push: bool = False,
        also: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        once: bool = False,
    ) -> Answer:
        """The answer to who we are; it is for the caller to look at its status, but for what we may not."""
        scopes = (f"repository:{self.path}:{'pull,push' if push else 'pull'}", *also)
        answer = asked(self._http, self._auth, method, url, scopes, self._base, headers=headers or {}, body=body, once=once)
        if answer.response.status in (401, 403):
            done(answer.response)
            raise self._auth.refused(f"for {'pushing to' if push else 'pulling'} {self.path}")
        return answer

    def _check(self, status: int, answer: Answer, good: tuple[int, ...]) -> None:
        if status in good:
            return
        said = _said(self._http.read(answer.response, _ERROR_LIMIT, answer.url))
        hint = "try again later" if status in TRANSIENT else None
        raise self._http.error(f"{self.domain} answered {status} for {self.name}{f': {said}' if said else ''}", hint=hint)


class _Sink:
    """What of a blob has come."""

    def __init__(self, repository: Repository, descriptor: Descriptor, write: Callable[[bytes], object]) -> None:
        self._repository = repository
        self._write = write
        self._hasher = hashlib.new(descriptor.digest.algorithm)
        self.digest = descriptor.digest
        self.expected = descriptor.size
        self.media_type = descriptor.media_type
        self.size = 0
        self.skip = 0
        """Bytes of the next pieces that are here already."""

    def write(self, data: bytes) -> None:
        if self.skip:
            old = min(self.skip, len(data))
            self.skip -= old
            data = data[old:]
        self.size += len(data)
        if self.size > self.expected:
            raise BadBlob(f"{self._repository.domain} sent more of the blob {self.digest} than its {self.expected} bytes")
        self._hasher.update(data)
        if data:
            self._write(data)

    def check(self) -> None:
        if self._hasher.hexdigest() != self.digest.hex:
            raise BadBlob(
                f"{self._repository.domain} sent a blob of {self._repository.name} that is not {self.digest}",
                hint="the registry, or something on the way to it, is damaged or hostile",
            )


def is_silence(error: RegistryError) -> bool:
    """Whether the server said nothing for as long as is borne."""
    from urllib3 import exceptions as errors

    return isinstance(error.__cause__, errors.ReadTimeoutError)


def _lost() -> tuple[type[Exception], ...]:
    """What ends a request after it was sent, perhaps whole."""
    from urllib3 import exceptions as errors

    return errors.ReadTimeoutError, errors.ProtocolError


def _cut(response: urllib3.BaseHTTPResponse) -> None:
    """Let whoever reads the body wait no longer."""
    try:
        response.shutdown()
    except (OSError, ValueError, RuntimeError):
        # It is over already; the last where the connection went back to its pool meanwhile.
        pass


def _is_foreign(media_type: str) -> bool:
    return ".nondistributable." in media_type or ".foreign." in media_type


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except BuildError:
        return None


def _said(data: bytes) -> str:
    """What the registry says is wrong (distribution-spec, "Error Codes")."""
    import json

    try:
        errors = json.loads(data)["errors"]
        texts = [str(error.get("message") or error.get("code") or "") for error in errors]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""
    # In one line: a registry writes none of its own among ours.
    return " ".join(", ".join(text for text in texts if text).split())[:200]
