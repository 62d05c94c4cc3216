"""What the daemon lets be seen: frozen records that metrics, logs, the event stream and the status page all listen to.

The logic publishes a record and goes on; it never calls a metric or a logger's formatter. Durations are seconds.
`Feed` hands each record to every listener, in the publishing thread; a listener returns at once and never raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from pop_actors.core.events import Event

_log = logging.getLogger("pop_actors.feed")


@dataclass(frozen=True, slots=True)
class JobChanged:
    """An event was folded into a job's status; `document` is the status after it."""

    job_id: str
    event: Event
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeedSeen:
    """A seed's bytes were read from the drop box."""

    job_id: str


@dataclass(frozen=True, slots=True)
class SeedClaimed:
    job_id: str
    pipeline: str


@dataclass(frozen=True, slots=True)
class SeedTurnedDown:
    """A seed went to rejected/; `reason` is the contract's."""

    job_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SeedIgnored:
    """Something in the drop box is no seed and is left alone; told once."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class FirstStage:
    """A job reached its first stage, `seconds` after its seed was seen."""

    job_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A run reached an end: outcome done, error, stopped or rejected; `seconds` since it was created."""

    job_id: str
    pipeline: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobOverLimit:
    """A job was ended because it used too much of `resource`: memory, disk or processes."""

    job_id: str
    resource: str


@dataclass(frozen=True, slots=True)
class StatusWritten:
    """One flush of the status writer: so many events of so many jobs, durable or not."""

    jobs: int
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ActorRestarted:
    """A supervisor started a child again. `actor` is a name of the tree (job actors: `job`), `reason` a short word."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class ActorUp:
    actor: str
    up: bool


@dataclass(frozen=True, slots=True)
class CallQueued:
    """A chat waits for a permit."""

    provider: str


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Whose call it is: a stage's, in one round of one attempt of a task of a run."""

    job_id: str
    run_id: str
    task: str
    attempt: int
    stage: str
    round: int


@dataclass(frozen=True, slots=True)
class CallAdmitted:
    """A chat left the queue, with a permit or (`granted` False) without: its deadline came or its job went."""

    provider: str
    waited: float
    granted: bool
    place: CallPlace | None = None


@dataclass(frozen=True, slots=True)
class CallRetried:
    """`reason`: a code of `CallFailed`. `ambiguous`: the provider may have done the work, so it may be paid twice."""

    provider: str
    model: str
    reason: str
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class CallReplayed:
    """`cached`: it came from the response cache, not from the job's own journal."""

    provider: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class CallFellBack:
    """A provider gave no reply, and the next choice of the call is asked. `reason`: a code of `CallFailed`."""

    provider: str
    model: str
    reason: str
    to_provider: str
    to_model: str


@dataclass(frozen=True, slots=True)
class BudgetReached:
    """A budget came to `share` (0.8: a warning; 1: it is spent), US dollars. Scope job, pipeline, provider or global;
    `then`: what becomes of calls when it is spent, fail or wait."""

    scope: str
    name: str
    share: float
    spent: float
    limit: float
    then: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """An admitted chat ended. `outcome`: ok, or a code of `CallFailed`. Tokens 0 and cost None: none is known.
    `finish_reason` as a reply's, and `wrote` the model that made it, as far as the provider tells; empty: nobody."""

    job_id: str
    provider: str
    model: str
    outcome: str
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    cache_write_tokens: int = 0
    retries: int = 0
    place: CallPlace | None = None
    finish_reason: str = ""
    wrote: str = ""


@dataclass(frozen=True, slots=True)
class ModelKnown:
    """A model may be asked: that of a provider where nobody names one, or another that is asked for the first time."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    provider: str
    model: str
    open: bool


@dataclass(frozen=True, slots=True)
class LimitSet:
    """A provider's limit; kind: requests_per_minute, tokens_per_minute, max_concurrency. None: unlimited."""

    provider: str
    kind: str
    value: float | None


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """The service's mode: rollout production, pilot or shadow; `claiming` False while it is paused or draining."""

    rollout: str
    claiming: bool


Observation = (
    JobChanged | SeedSeen | SeedClaimed | SeedTurnedDown | SeedIgnored | FirstStage | JobFinished | StatusWritten
    | ActorRestarted | ActorUp | CallQueued | CallAdmitted | CallRetried | CallReplayed | CallEnded | CircuitChanged
    | LimitSet | ModelKnown | ModeChanged | JobOverLimit | CallFellBack | BudgetReached
)  # fmt: skip
Listener = Callable[[Observation], None]


class Gauges(TypedDict, total=False):
    """Numbers sampled when the metrics are scraped. Actors are named as in the tree; all job actors together: `job`."""

    jobs: dict[str, int]
    pending_seeds: int
    mailboxes: dict[str, int]
    mailbox_ages: dict[str, float]
    mailbox_dropped: dict[str, int]
    mailbox_refused: dict[str, int]
    up: dict[str, bool]
    damaged_jobs: int
    intake_paused: dict[str, bool]
    disk_free_bytes: int


class Feed:
    """The listeners, and the one verb they hear by."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def add(self, listener: Listener) -> Callable[[], None]:
        """Listen from now on; the returned function ends it."""
        self._listeners = (*self._listeners, listener)

        def remove() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)

        return remove

    def publish(self, observation: Observation) -> None:
        """Hand it to every listener; one that raises is logged and does not disturb the others."""
        for listener in self._listeners:
            try:
                listener(observation)
            except Exception:  # noqa: BLE001  (a listener must not break what it only watches)
                _log.exception("a listener failed on %s", type(observation).__name__)
