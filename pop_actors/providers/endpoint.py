"""Where and how one provider is asked over HTTP, and what goes with every request. Values; never shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import h11
from pydantic import SecretStr

from pop_actors import __version__
from pop_actors.providers.address import Address
from pop_actors.providers.catalogue import Vendor

SHORTEST_SECRET = 8  # what is shorter is no secret, and may be any word of a message

Streaming = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. `base_url` as settings have it. `idle_seconds`: longest silence within a reply.

    `stream`: replies come as streams always, never, or where they may be long. `drop_unsupported`: what a model refuses
    is left out with a warning; else the call fails. `headers` (names in lower case) go with every request.
    """

    name: str
    base_url: str
    key: SecretStr | None
    vendor: Vendor
    idle_seconds: float
    stream: Streaming = "auto"
    drop_unsupported: bool = True
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    server: str = field(init=False)

    def __post_init__(self) -> None:
        # a password may stand before the @
        object.__setattr__(self, "server", urlsplit(self.base_url).netloc.rpartition("@")[2])

    def said(self, error: Exception) -> str:
        """What went wrong there, for people."""
        return self.without_secrets(f"{self.server}: {str(error) or type(error).__name__}")

    def without_secrets(self, text: str) -> str:
        """Some providers repeat the key they were given in their complaint."""
        for secret in (self.key, *self.headers.values()):
            if secret is not None and len(secret.get_secret_value()) >= SHORTEST_SECRET:
                text = text.replace(secret.get_secret_value(), "***")
        return text


def headers_of_all(endpoint: Endpoint, address: Address, auth: Mapping[str, str]) -> dict[bytes, bytes]:
    """What each request has; `auth` are those that carry the key. ValueError names one that cannot be sent."""
    named = {
        "host": address.authority,
        "user-agent": f"pop-actors/{__version__}",
        "content-type": "application/json",
        # replies are small, and a compressed one could unpack to more than its limit in one step
        "accept-encoding": "identity",
        **auth,
        **({"authorization": address.credentials} if address.credentials else {}),
        **{name: value.get_secret_value() for name, value in endpoint.headers.items()},
    }
    return dict(_sendable(name, value) for name, value in named.items())


def _sendable(name: str, value: str) -> tuple[bytes, bytes]:
    try:
        header = name.encode("ascii"), value.encode("ascii")
        h11.Request(method="POST", target="/", headers=[(b"host", b""), header] if name != "host" else [header])
    except (UnicodeEncodeError, h11.LocalProtocolError):
        # its value may be a key: not even a part of it is shown
        raise ValueError(f"the header {name!r} cannot be sent: HTTP does not allow its characters") from None
    return header
