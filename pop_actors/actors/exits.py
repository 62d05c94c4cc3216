"""Why a child is gone: the one word that restarts, escalation and metrics are decided by. Only values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ReasonKind = Literal["normal", "shutdown", "exception", "exit", "signal", "hung", "timeout"]
_KINDS = get_args(ReasonKind)


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why a child is gone.

    normal: it ended itself. shutdown: it was asked to, or its supervisor gave up in good order. exception: out of its
    code. exit: `SystemExit`, or a process's exit code. signal: a process was killed. hung: it did not beat, start or
    stop in time. timeout: its work took too long. `detail` is for people.
    """

    kind: ReasonKind
    detail: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"an exit reason is one of {', '.join(_KINDS)}, not {self.kind!r}; the rest is its detail")

    @property
    def is_abnormal(self) -> bool:
        """Whether a transient child is started again after it: anything but normal and shutdown."""
        return self.kind not in {"normal", "shutdown"}

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def a_reason(value: object) -> ExitReason:
    """It, where it is one; else TypeError."""
    if not isinstance(value, ExitReason):
        raise TypeError(f"an actor ends for an ExitReason(kind, detail), not {value!r}")
    return value


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
