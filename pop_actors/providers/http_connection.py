"""The seam between an exchange and the way its bytes go: one POST at a time over one connection, and how it can fail.

`h11_connection` is the way straight to the server; `httpx_connection` goes through a proxy. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """Names of headers are in lower case; the values of one that came several times are joined by commas."""

    status: int
    headers: Mapping[str, str]


def joined(pairs: Iterable[Header]) -> dict[str, str]:
    """The headers of a `Head`."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class NotSent(Exception):
    """Nothing of the request has left: no address, no connection, no TLS, no proxy."""


class Unsendable(Exception):
    """The request cannot be said in HTTP, now or ever."""


class Broken(Exception):
    """The connection ended, or something came that is no HTTP. The request may have been worked on."""


class Connection(Protocol):
    """A connection to one server. Whoever gave up in the middle of a reply aborts it: it serves nobody else.

    `moved`: when bytes last went or came, in the loop's time. `is_sending`: the request has not left us whole.
    """

    @property
    def moved(self) -> float: ...
    @property
    def is_sending(self) -> bool: ...
    @property
    def is_ready(self) -> bool:
        """Nothing is under way, and the server has not hung up meanwhile: it may be used, or used again."""

    async def post(self, target: str, headers: list[Header], body: bytes) -> Head:
        """Send it and wait for the head of the reply. NotSent, Unsendable, Broken."""

    async def chunk(self) -> bytes:
        """What has come of the body since, once there is some; empty at its end. Broken."""

    def abort(self) -> None:
        """Close at once; whoever waits gets Broken."""

    async def closed(self) -> None:
        """Wait until what was aborted has let go of its socket."""


class Line(Protocol):
    """Where connections come from: one server, and the way to it."""

    async def open(self, deadline: float) -> Connection:
        """A new one. NotSent if there is none by the deadline, or before."""
