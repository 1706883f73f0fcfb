"""Credentials in URLs, made unreadable before a text is shown or kept. Pure.

What counts: the user and password before an `@` (BuildKit's `urlutil.RedactCredentials` masks them as `xxxxx:xxxxx`), and the
values of query parameters that are named like a secret, as signed and token URLs carry them. The plain user of an ssh URL,
which is nearly always `git`, is no secret.
"""

from __future__ import annotations

MASK = "xxxxx"

# The last `@` before the path ends the user's part, as browsers and curl have it: passwords may hold an `@`.
_USER = r"""([a-zA-Z][a-zA-Z0-9+.-]*)://([^/\s?#"]*)@"""
_NAMES = r"[\w.-]*(?:token|secret|signature|password|passwd|credential)[\w.-]*|sig|key|auth|api_?key"
# A colon that ends the URL in a message is no part of the value.
_SECRET = rf"""(?ai)([?&](?:{_NAMES})=)((?:[^&#\s"':]|:(?=[^&#\s"']))+)"""


def redact(text: str, *, keep_width: bool = False) -> str:
    """`text` with the credentials of every URL in it masked; `keep_width` leaves all columns where they are."""
    if "://" not in text:
        return text
    import re  # for those who have a URL

    def mask(secret: str) -> str:
        return "x" * len(secret) if keep_width else MASK

    def user(found: re.Match[str]) -> str:
        name, colon, password = found[2].partition(":")
        if found[1].lower() == "ssh" and not colon:
            return found[0]
        return f"{found[1]}://{mask(name) if name else ''}{colon}{mask(password) if password else ''}@"

    return re.sub(_SECRET, lambda found: found[1] + mask(found[2]), re.sub(_USER, user, text))
