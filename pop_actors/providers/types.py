"""The seam between the gateway and the world's model providers: one verb, one reply, one way to fail; and the seam
below it, where a wire format plugs in.

A provider is a `Provider`. Most speak JSON over HTTP: for those `http_transport.HttpProvider` does the POST, deadlines,
silences, sizes and errors, and a `Wire` (a module of pure functions) says what the bytes mean. A new wire format is
such a module, a line in `registry.WIRES`, and its vendor's line in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pop_actors.core.chat import ChatRequest, FinishReason, ToolCall, Usage
from pop_actors.core.rate_news import RateNews
from pop_actors.core.retries import Fate
from pop_actors.errors import CallFailed
from pop_actors.providers.catalogue import Vendor


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A completion as bought. `cost_usd` is None where the price is unknown. `rate_news`: what its headers say of
    limits; `model`: who wrote it, as far as the provider tells."""

    content: str
    usage: Usage
    finish_reason: FinishReason
    cost_usd: float | None
    tool_calls: tuple[ToolCall, ...] = ()
    rate_news: RateNews | None = None
    model: str = ""


class AttemptFailed(CallFailed):
    """One request to a provider failed.

    `fate` says what became of it there, and so whether it may be sent again; `retry_after` (s) is the provider's wish.
    `usage` is given where it was billed nevertheless; `cost_usd` then as in a reply, and `rate_news` too.
    """

    def __init__(
        self,
        code: str,
        message: str,
        fate: Fate,
        *,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        rate_news: RateNews | None = None,
    ) -> None:
        super().__init__(code, message, details)
        self.fate: Fate = fate
        self.retry_after = retry_after
        self.usage = usage
        self.cost_usd = cost_usd
        self.rate_news = rate_news


class Provider(Protocol):
    """A provider of completions. Used by one event loop; holds its own connections and no other state."""

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """Make one request, once. AttemptFailed however it fails.

        `deadline` is in the running loop's time; the call has ended by then, with the code `timeout` at the latest.
        """

    async def close(self) -> None:
        """Let go of every connection; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What to POST: `path` is appended to the base URL; `headers` (lower case) join content-type and the key's."""

    path: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply as read: with text, or with tool calls, or both. `model`: who wrote it, where that is told."""

    content: str
    usage: Usage
    finish_reason: FinishReason
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream. `name` is "message" where the server gave none."""

    name: str
    data: str


class StreamParser(Protocol):
    """One streamed reply being put together. Trusts nothing it is fed.

    `began`: the model has said or thought something. `done`: the terminator was fed; nothing more is wanted.
    """

    @property
    def began(self) -> bool: ...
    @property
    def done(self) -> bool: ...

    def feed(self, event: ServerEvent) -> None:
        """Take one event. AttemptFailed where it says that the call failed, or is nonsense."""

    def close(self) -> Parsed:
        """The reply, when the stream has ended. AttemptFailed `disconnected` (ambiguous) without its terminator, else
        as `Wire.parse_reply`."""

    def usage(self) -> Usage | None:
        """What the stream has said so far of what is billed; asked when it breaks."""


class Wire(Protocol):
    """A wire format: a module with these functions. Pure: no clock, no network, no settings."""

    def auth(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key (never the URL)."""

    def request(self, request: ChatRequest, model: str, vendor: Vendor, *, stream: bool) -> WireRequest:
        """What to send. `fitting.fit` has already taken out what the model is known to refuse, and brought
        `reasoning_effort` to a level the model has. AttemptFailed bad_request, permanent, for what cannot be said."""

    def parse_reply(self, body: bytes) -> Parsed:
        """What a 2xx body says. AttemptFailed, permanent, with the usage where it is billed: bad_reply (nonsense),
        truncated (the tokens ran out before any text), blocked (refused or filtered)."""

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> AttemptFailed:
        """What another status says. Header names are in lower case; `now` is seconds since the epoch."""

    def open_stream(self) -> StreamParser:
        """A parser for one streamed reply."""
