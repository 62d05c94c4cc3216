"""What an earlier start left running: every process below a job carries its workspace's name in its environment."""

from __future__ import annotations

import os

from pop_actors.process_table import WORKSPACE, carriers, end_all
from pop_actors.storage.layout import Workspace


def mark_of(workspace: Workspace) -> str:
    """What these processes carry as `WORKSPACE`: where the data really lie, whichever way the folder is named."""
    return os.path.realpath(workspace.data)


def end_marked(workspace: Workspace, timeout: float) -> list[int]:
    """Kill every process that carries the mark, whatever session or group it fled to; when it returns they are dead.

    For a start: the caller holds the workspace's lock and has started nothing yet. This process and those it descends
    from are spared. TimeoutError where some do not die within `timeout` seconds.
    """
    mark = mark_of(workspace)
    return sorted(end_all(lambda: carriers(WORKSPACE, mark), timeout))
