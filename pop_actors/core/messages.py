"""The vocabulary: every message actors send each other across processes, frozen and typed.

Messages that stay inside the daemon are defined beside the actor that takes them; these cross a process border and so
have a wire form (`actors/wire.py`). Fields hold plain JSON values only. An answer to an ask is a plain JSON value too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """Job → status-writer: these events happened, in this order (documents of `core.events`).

    Asked, it is a barrier: the answer (None) comes when they are on disk. Told, they are written soon.
    Events already recorded (by epoch and seq) are dropped, so it may be sent again.
    """

    job_id: str
    run_id: str
    epoch: int
    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Chat:
    """Job → gateway, asked: one LLM call. The answer is a `ChatReply` document; a refusal is a `CallFailed`.

    (task, attempt, stage, round, ordinal) and the hash of `request` make the journal's key: the same call asked again,
    after whatever crashed, gets the same reply and is not bought again. `request` is the document of a
    `core.chat.ChatRequest`; `timeout` (s) bounds waiting, attempts and body together. The rest says how it is bought,
    and is no part of what it is: `fallback` names who is asked next (`provider:model`), `budget_usd` what the job may
    spend, all its runs together; `configured` which parts of the request (as temperature) come from a configuration and
    not from the call itself; `ask` is what `Withdraw` calls this asking.
    """

    job_id: str
    run_id: str
    epoch: int
    task: str
    attempt: int
    stage: str
    round: int
    ordinal: int
    request: dict[str, Any]
    timeout: float
    pipeline: str = ""
    priority: int = 0
    budget_usd: float | None = None
    fallback: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    ask: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Job → gateway: whoever made that `ask` does not want its answer any more. What nobody else waits for is ended,
    its connection with it, unless its reply is here already."""

    job_id: str
    ask: str


@dataclass(frozen=True, slots=True)
class Json:
    """Any JSON value, between actors that have no message types of their own."""

    value: Any


@dataclass(frozen=True, slots=True)
class Stop:
    """Supervisor → process actor: end now; with `suspend` at the next stage boundary, to go on after the next start."""

    reason: str = "stopped"
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Process host → idle worker: become this actor. `entry` is `module:Class`, `arguments` its keyword arguments,
    `limits` what it sets itself before (names of the `resource` module, as `RLIMIT_NOFILE`)."""

    address: str
    epoch: int
    entry: str
    arguments: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """Process actor → its supervisor, once: it has started."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Process actor → its supervisor, every `HEARTBEAT_SECONDS`: the process still schedules threads."""

    address: str
    epoch: int
    count: int


@dataclass(frozen=True, slots=True)
class Exiting:
    """Process actor → its supervisor: the last message; `reason` is normal, shutdown, or what went wrong."""

    address: str
    epoch: int
    reason: str
