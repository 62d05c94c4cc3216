"""Every error this package raises on purpose, drawn as the tree it is.

PopError
├─ SettingsError            a setting is wrong: popd exits 2
├─ RootTaken                another popd owns the workspace: popd exits 3
├─ InvalidJson              bytes from outside are not strict JSON; says where
├─ SeedRejected             a seed cannot become a job; carries the contract's reason
├─ PipelineInvalid          a pipeline or its registry has faults; lists all of them
├─ StorageError             a file of the workspace could not be read or written
│  ├─ Damaged               a file is there, but not what it must be
│  └─ FormatRefused         files are of a format this version does not work with
├─ ActorError
│  ├─ Unavailable           nobody answers at that address now; ask again
│  ├─ AskTimeout            no answer before the deadline
│  ├─ AnswerFailed          the actor failed on this very message; sent again, it may fail again
│  ├─ StartRefused          an actor, or a child of a supervisor, did not start
│  └─ FrameRefused          a frame is oversized, malformed or of an unknown type
└─ Refused                  a declared "no", with a code; crosses process borders whole
   └─ CallFailed            an LLM call ended without a usable reply
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DISK_FULL = "disk_full"
"""The code of what was refused because the disk has no room now; the same may be asked again."""
BUDGET_PAUSED = "budget_paused"
"""The code of a call refused because a budget of the day is spent, where calls wait for the next: ask again then."""


class PopError(Exception):
    """Base of every error raised on purpose; its message says what was wrong, where, and what to do."""


class SettingsError(PopError):
    """A setting has a wrong name or value; the message names the key, the value and what is allowed."""


class RootTaken(PopError):
    """Another popd owns this workspace; stop it, or give this one another --root."""


class InvalidJson(PopError):
    """Bytes from outside are not strict JSON. `line` and `column` count from 1; both 0: no place is to blame."""

    def __init__(self, fault: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}, column {column}: {fault}" if line else fault)
        self.fault = fault
        self.line = line
        self.column = column


class SeedRejected(PopError):
    """A seed cannot become a job.

    `reason` is one of the contract's: invalid_json, invalid_seed, unknown_pipeline, invalid_pipeline,
    duplicate_job, too_large, quality.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class PipelineInvalid(PopError):
    """A pipeline has faults. `faults` holds every one as `path: what is wrong`."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class ControlInvalid(PopError):
    """A task's control.json has faults. `faults` holds every one as `path: what is wrong`."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class StorageError(PopError):
    """A file of the workspace could not be read or written; the message names it."""


class Damaged(StorageError):
    """A file of the workspace is there but is not what it must be; the message names it and the fault."""


class FormatRefused(StorageError):
    """Files of the workspace are of a format this version does not work with, newer or too old; they stay untouched."""


class ActorError(PopError):
    """Base of what goes wrong between actors."""


class Unavailable(ActorError):
    """Nobody answers at that address now (it is down or being restarted); the same message may be sent again."""


class AskTimeout(ActorError):
    """No answer came before the deadline."""


class AnswerFailed(ActorError):
    """The actor failed on this very message; its text says how. Not sent again by itself: it might fail again."""


class StartRefused(ActorError):
    """An actor, or a child of a supervisor, did not start; the message names it and says why."""


class FrameRefused(ActorError):
    """A frame is oversized, malformed or of a type the vocabulary does not know."""


class Refused(PopError):
    """A declared "no": the asker did something that cannot be done. It crosses process borders with all it says.

    `code` is a short machine word; `details` is JSON-able and adds what a program may need.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class CallFailed(Refused):
    """An LLM call ended without a usable reply.

    `code` says how: auth, quota, bad_request, rate_limited, overloaded, server, connect, timeout, disconnected,
    bad_reply, blocked, truncated, queue_full, unknown_provider, no_key, cancelled, journal (llm-calls.jsonl cannot be
    written), disk_full (there is no room to write it now: ask again), budget (it is spent), budget_paused (it is spent
    for today: ask again), circuit_open, internal.
    """
