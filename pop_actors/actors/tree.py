"""The rows of the supervision tree, as people are shown it. JSON-able; made from any thread, of what is there now."""

from __future__ import annotations

import time
from typing import Any

from pop_actors.actors.child import RunningChild
from pop_actors.actors.waves import Child


def child_row(prefix: str, child: Child, running: RunningChild | None) -> dict[str, Any]:
    """A child, with all that is below it."""
    shown = {} if running is None else running.snapshot()
    since = child.started_at if child.incarnation is not None else None
    uptime = 0.0 if since is None else time.monotonic() - since
    pid = None if running is None else running.pid
    return row(prefix + child.spec.id, child.spec.kind, child.state, pid, child.restarts, uptime, shown)


def row(
    name: str, kind: str, state: str, pid: int | None, restarts: int, uptime: float, shown: dict[str, Any]
) -> dict[str, Any]:
    """`{name, kind, state, pid, restarts, mailbox, uptime (s), children, details}`."""
    details = {key: value for key, value in shown.items() if key not in {"mailbox", "children", "state"}}
    return {
        "name": name,
        "kind": kind,
        "state": state,
        "pid": pid,
        "restarts": restarts,
        "mailbox": shown.get("mailbox", 0),
        "uptime": round(uptime, 3),
        "children": shown.get("children", []),
        "details": details,
    }
