"""Patterns that the path alone tells. Pure."""

from __future__ import annotations

import re

_LONGEST = 4096
"""Bytes of a path, as the kernel has it."""
_HOME = r"(?:root|home/[^/]+)"

_PLACES: tuple[tuple[str, str], ...] = (
    ("machine-id", r"etc/machine-id|var/lib/dbus/machine-id"),
    ("ssh-host-keys", r"etc/ssh/ssh_host_.*"),
    ("account-backup", r"etc/(?:passwd|shadow|group|gshadow|subuid|subgid)-"),
    ("ldconfig-cache", r"var/cache/ldconfig/.*"),
    ("ld-so-cache", r"etc/ld\.so\.cache"),
    ("font-cache", r"var/cache/fontconfig/.*|usr/(?:local/)?share/fonts/(?:.*/)?\.uuid"),
    ("man-database", r"var/cache/man/.*"),
    ("dpkg-backup", r"var/lib/dpkg/[^/]+-old"),
    ("debconf-database", r"var/cache/debconf/.*"),
    ("apt-lists", r"var/lib/apt/(?:lists/.*|periodic/.*|extended_states)"),
    ("apt-cache", r"var/cache/apt/.*"),
    ("package-log", r"var/log/(?:apt/.*|dpkg\.log.*|alternatives\.log.*|bootstrap\.log|dnf.*|yum.*|apk\.log|hawkey\.log)"),
    ("apk-database", r"(?:usr/)?lib/apk/db/.*"),
    ("apk-cache", r"(?:var/cache|etc)/apk/(?:cache/)?(?:APKINDEX.*|.*\.apk)"),
    ("rpm-database", r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/.*"),
    ("dnf-state", r"var/(?:lib|cache)/(?:dnf|yum|libdnf5|zypp)/.*"),
    ("java-keystore", r".*/java/(?:.*/)?cacerts|.*/lib/security/cacerts|.*\.(?:jks|keystore|bks|p12)"),
    ("random-seed", r"var/lib/(?:systemd/random-seed|urandom/random-seed)|.*/\.rnd"),
    ("gnupg", rf"(?:{_HOME}|etc/apt|etc/pacman\.d)/\.?gnupg/.*|.*/random_seed|.*/trustdb\.gpg|.*/pubring\.(?:gpg~|kbx~?)"),
    ("private-key", r"etc/ssl/private/.*|.*/id_(?:rsa|dsa|ecdsa|ed25519)(?:\.pub)?"),
    ("host-files", r"etc/(?:hostname|hosts|resolv\.conf)"),
    ("pip-cache", r".*/\.cache/pip/.*"),
    ("npm-cache", r".*/\.npm/.*|.*/node_modules/\.(?:cache/.*|package-lock\.json)|.*/\.cache/(?:yarn|node-gyp)/.*"),
    (
        "maven-repository",
        r".*/\.m2/(?:.*/)?(?:_remote\.repositories|resolver-status\.properties|[^/]*\.lastUpdated|maven-metadata[^/]*)",
    ),
    (
        "build-cache",
        r".*/\.(?:cache|gradle|ccache)/.*|.*/\.cargo/(?:registry|\.package-cache|\.global-cache).*|.*/\.mypy_cache/.*|.*/\.pytest_cache/.*",
    ),
    ("git-logs", r"(?:.*/)?\.git/(?:logs/.*|FETCH_HEAD|ORIG_HEAD)"),
    ("git-objects", r"(?:.*/)?\.git/(?:objects/.*|refs/.*|packed-refs)"),
    ("pycache", r"(?:.*/)?__pycache__(?:/.*)?"),
    ("pip-direct-url", r".*\.dist-info/direct_url\.json"),
    ("temporary-file", r"(?:var/)?tmp/.*"),
    ("log", r"var/log/.*|.*\.log(?:\.[0-9]+)?(?:\.gz)?"),
)  # fmt: skip


def place_of(path: bytes) -> str:
    """The pattern that files at this path are known for; empty for none."""
    if len(path) > _LONGEST:
        return ""
    found = _compiled().fullmatch(path.decode("utf-8", "replace"))
    return "" if found is None else _PLACES[int(str(found.lastgroup)[1:])][0]


_pattern: list[re.Pattern[str]] = []


def _compiled() -> re.Pattern[str]:
    if not _pattern:
        named = (f"(?P<p{number}>{place})" for number, (_, place) in enumerate(_PLACES))
        _pattern.append(re.compile("|".join(named), re.DOTALL))
    return _pattern[0]
