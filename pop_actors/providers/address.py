"""Where a provider is: its base URL taken apart once, and what of it stands in each request. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

_VERSION = re.compile(r"/v\d\w*\Z")
_LEADING_VERSION = re.compile(r"\A/v\d\w*(?=/)")
_PORTS = {"http": 80, "https": 443}
_AS_IT_IS = "!$%&'()*+,-./:;=?@[]^_|~"  # of a path and its query; what is quoted already stays so


@dataclass(frozen=True, slots=True)
class Address:
    """`host` as names are looked up, `authority` as a Host header names it; `credentials`: what stood before the @,
    as a header has it."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    authority: str
    credentials: str | None = field(repr=False)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"


def address_of(base_url: str) -> Address:
    """ValueError for what is no http or https URL, or has a host that no name can be."""
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("base_url is no http or https address")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    host.encode("idna")  # labels that are empty or too long: the resolver would trip over them
    port = parts.port or _PORTS[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    return Address(
        "https" if parts.scheme == "https" else "http",
        host,
        port,
        named if port == _PORTS[parts.scheme] else f"{named}:{port}",
        _basic(parts.username or "", parts.password or "") if parts.username or parts.password else None,
    )


def address(base_url: str, path: str) -> str:
    """Where to post. A base URL that names an API version already keeps it."""
    if _VERSION.search(base_url):
        path = _LEADING_VERSION.sub("", path)
    return base_url + path


@lru_cache(maxsize=1024)  # a path may name the model
def target(base_url: str, path: str) -> str:
    """What of `address` stands in the request's first line."""
    parts = urlsplit(address(base_url, path))
    return quote(parts.path + (f"?{parts.query}" if parts.query else ""), safe=_AS_IT_IS)


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{unquote(user)}:{unquote(password)}'.encode()).decode()}"
