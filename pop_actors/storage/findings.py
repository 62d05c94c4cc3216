"""What doctor finds: where, what is wrong, and what to type. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
NEEDS_ACTION: frozenset[Severity] = frozenset({"error", "warning"})


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: something does not work. `warning`: somebody has to do something. `note`: good to know, no more.

    `where` is a path or a name, `todo` what to type or do; `repairable`: `popctl doctor --repair` does it.
    """

    severity: Severity
    where: str
    what: str
    todo: str = ""
    job_id: str | None = None
    repairable: bool = False

    @property
    def needs_action(self) -> bool:
        return self.severity in NEEDS_ACTION

    def document(self) -> dict[str, Any]:
        """As `popctl doctor --json` shows it."""
        return {
            "severity": self.severity,
            "where": self.where,
            "what": self.what,
            "do": self.todo,
            "job": self.job_id,
            "repairable": self.repairable,
        }
