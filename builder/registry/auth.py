"""Who we are to a registry: its challenges (RFC 9110, section 11), and tokens (distribution's `spec/auth/token.md` and
`oauth.md`)."""

from __future__ import annotations

import json
import time
from _thread import allocate_lock

from builder.http.addresses import basic, origin
from builder.registry.hosts import is_loopback
from builder.registry.http import Body, done
from builder.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.errors import RegistryError
    from builder.registry.access import Credentials
    from builder.registry.http import Answer, Http

_TOKEN_LIMIT = 1 << 20
# What a token server does not say (`spec/auth/token.md`); and so much earlier a token counts as old.
_LIFETIME, _MARGIN = 60.0, 10.0
_LONGEST = 86_400.0


class Challenge(NamedTuple):
    scheme: str
    """In lower case."""
    parameters: tuple[tuple[str, str], ...]

    def parameter(self, name: str) -> str:
        """Empty where there is none."""
        return dict(self.parameters).get(name, "")


class Auth:
    """The `Authorization` of requests to one registry. For several threads."""

    def __init__(self, http: Http, credentials: Credentials, shown: str, *, insecure: bool) -> None:
        """`shown` is the registry's name; `insecure`: credentials may go over plain HTTP."""
        self._http = http
        self._credentials = credentials
        self._shown = shown
        self._insecure = insecure
        self._lock = allocate_lock()
        self._basic = False
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        http.secrets.update(text for text in (self._as_basic()[6:], credentials.password, *credentials[2:]) if len(text) > 3)

    def header(self, scopes: tuple[str, ...]) -> dict[str, str]:
        """What is known to serve requests that need `scopes`; none before the first challenge."""
        if self._credentials.registry_token:
            return {"Authorization": f"Bearer {self._credentials.registry_token}"}
        with self._lock:
            if self._basic:
                return {"Authorization": self._as_basic()}
            token, until = self._tokens.get(scopes, ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and time.monotonic() < until else {}

    def answer(self, challenges: list[str], scopes: tuple[str, ...], url: str) -> bool:
        """Make ready for what a 401 from `url` asks; False where there is nothing that could serve. Raises RegistryError."""
        known = {challenge.scheme: challenge for text in challenges for challenge in _parsed(text)}
        if "bearer" in known:
            token = self._token(known["bearer"], scopes, url)
            with self._lock:
                self._tokens[scopes] = token
            return True
        if "basic" in known and self._credentials.username:
            self._check_safe(url)
            with self._lock:
                self._basic = True
            return True
        return False

    @property
    def anonymous(self) -> bool:
        return not any(self._credentials)

    def _as_basic(self) -> str:
        return basic(f"{self._credentials.username}:{self._credentials.password}")

    def _check_safe(self, url: str) -> None:
        scheme, host, _ = origin(url)
        if scheme != "https" and not self._insecure and not is_loopback(host):
            raise self._http.error(f"{self._shown} asks for credentials over plain HTTP, where everybody can read them")

    def _token(self, challenge: Challenge, scopes: tuple[str, ...], asked: str) -> tuple[str, float]:
        """A token, and when it gets old (`time.monotonic`)."""
        from urllib.parse import urlencode, urlsplit

        realm = challenge.parameter("realm")
        try:
            scheme, host, _ = origin(realm)
        except ValueError:
            scheme = host = ""
        wrong = f"{self._shown} names a token server that cannot be asked: '{realm[:200]}'"
        if scheme not in ("http", "https") or not host or urlsplit(realm).username is not None:
            raise self._http.error(wrong, hint="the registry is set up wrongly")
        if scheme == "http" and origin(asked)[0] == "https" and not self._insecure:
            raise self._http.error(f"{wrong}, by plain HTTP", hint="the registry is set up wrongly")
        service = challenge.parameter("service")
        pairs = [("service", service)] if service else []
        who = self._credentials
        if who.identity_token:
            self._check_safe(realm)
            pairs += [("grant_type", "refresh_token"), ("client_id", "pybuild"), ("refresh_token", who.identity_token)]
            pairs += [("scope", " ".join(scopes))] if scopes else []
            form = urlencode(pairs).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._http.request("POST", realm, headers, body=bytes_body(form))
        else:
            pairs += [("scope", scope) for scope in scopes]
            headers = {}
            if who.username:
                self._check_safe(realm)
                pairs.append(("account", who.username))
                headers = {"Authorization": self._as_basic()}
            query = urlencode(pairs)
            mark = "" if not query else "&" if urlsplit(realm).query else "?"
            answer = self._http.request("GET", f"{realm}{mark}{query}", headers)
        response = answer.response
        if response.status in (401, 403):
            done(response)
            raise self.refused()
        if response.status != 200:
            done(response)
            raise self._http.error(
                f"the token server {host} of {self._shown} answered {response.status}", hint="try again later"
            )
        return self._read(self._http.read(response, _TOKEN_LIMIT, realm), host)

    def _read(self, data: bytes, host: str) -> tuple[str, float]:
        try:
            raw = json.loads(data)
            token = raw.get("token") or raw.get("access_token")
            lifetime = raw.get("expires_in", _LIFETIME)
            if not (isinstance(token, str) and token.isascii() and token.isprintable() and isinstance(lifetime, int | float)):
                raise TypeError
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise self._http.error(
                f"the token server {host} of {self._shown} gave no token", hint="the registry is set up wrongly"
            ) from None
        self._http.secrets.add(token)
        # Compared before it is a float, which not every number of JSON fits into; NaN is not longer than anything.
        seconds = min(lifetime, _LONGEST) if lifetime > _LIFETIME else _LIFETIME
        return token, time.monotonic() + seconds - _MARGIN

    def refused(self, what: str = "") -> RegistryError:
        """For credentials that are wrong, missing, or not enough for `what`, as "for pulling a/b"."""
        login, tail = f"pybuild login {self._shown}", f" {what}" if what else ""
        # Docker Hub says so of a repository that is not there, too.
        other = "; is the name right?" if what else ""
        if self.anonymous:
            message, hint = f"{self._shown} wants credentials{tail}, and there are none", f"log in: {login}{other}"
        elif what:
            message, hint = f"{self._shown} refuses the credentials{tail}", f"log in anew: {login}{other}"
        else:
            message = f"{self._shown} refuses the credentials"
            hint = "check user and password; some registries want a token in its place"
        return self._http.error(message, hint=hint)


def asked(
    http: Http,
    auth: Auth,
    method: str,
    url: str,
    scopes: tuple[str, ...],
    base: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Body | None = None,
    once: bool = False,
) -> Answer:
    """The answer, after the registry at `base` was told who we are, if it asks."""
    # An upload may lead to another host, which our credentials are not for.
    own = origin(url) == origin(base)
    answer = http.request(method, url, {**(headers or {}), **(auth.header(scopes) if own else {})}, body=body, once=once)
    if answer.response.status != 401 or origin(answer.url) != origin(base):
        return answer
    challenges = answer.response.headers.getlist("WWW-Authenticate")
    if not auth.answer(challenges, scopes, answer.url):
        return answer
    done(answer.response)
    return http.request(method, url, {**(headers or {}), **auth.header(scopes)}, body=body, once=once)


def bytes_body(data: bytes) -> Body:
    from io import BytesIO

    return Body(lambda: BytesIO(data), len(data))


def _parsed(text: str) -> list[Challenge]:
    """The challenges of a `WWW-Authenticate` header: `Bearer realm="...",service="...", Basic realm="..."`."""
    out: list[tuple[str, list[tuple[str, str]]]] = []
    rest = text.strip()
    while rest:
        word, rest = _word(rest)
        if not word:
            break
        rest = rest.lstrip()
        if rest.startswith("="):
            value, rest = _value(rest[1:].lstrip())
            if out:
                out[-1][1].append((word.lower(), value))
        else:
            out.append((word.lower(), []))
        rest = rest.lstrip(" \t,")
    return [Challenge(scheme, tuple(parameters)) for scheme, parameters in out]


def _word(text: str) -> tuple[str, str]:
    end = next((i for i, char in enumerate(text) if char in " \t,="), len(text))
    return text[:end], text[end:]


def _value(text: str) -> tuple[str, str]:
    if not text.startswith('"'):
        return _word(text)
    value, i = "", 1
    while i < len(text) and text[i] != '"':
        i += text[i] == "\\"
        value += text[i : i + 1]
        i += 1
    return value, text[i + 1 :]
