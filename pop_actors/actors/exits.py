"""Why a child is gone: the one word that restarts, escalation and metrics are decided by. Only values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReasonKind = Literal["normal", "shutdown", "exception", "exit", "signal", "hung", "timeout"]


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why a child is gone.

    normal: it ended itself. shutdown: it was asked to, or its supervisor gave up in good order. exception: out of its
    code. exit: `SystemExit`, or a process's exit code. signal: a process was killed. hung: it did not beat, start or
    stop in time. timeout: its work took too long. `detail` is for people.
    """

    kind: ReasonKind
    detail: str = ""

    @property
    def is_abnormal(self) -> bool:
        """Whether a transient child is started again after it: anything but normal and shutdown."""
        return self.kind not in {"normal", "shutdown"}

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")
