"""files/logs/process.log, which C code and subprocesses of a job write without asking anybody: kept below a bound.

Whoever looks cuts it: the job's process where a task ends, the daemon while the job runs. Writers append, so they go on
behind the cut and are cut again.
"""

from __future__ import annotations

import os
from pathlib import Path

from pop_actors.storage import disk
from pop_actors.storage.files import write_all

PROCESS_LOG = "process.log"
LIMIT_BYTES = 10 * 1024 * 1024
LAST_LINE = f"\n[truncated: a process log ends at {LIMIT_BYTES // 1024 // 1024} MiB, the rest is dropped]\n".encode()


def keep_bounded(logs: Path, limit: int = LIMIT_BYTES) -> bool:
    """Cut the log in the job's files/logs where it is over `limit` bytes, and say so in its last line; whether it was.
    OSError where the disk refuses."""
    path = logs / PROCESS_LOG
    try:
        if os.stat(path).st_size <= limit:
            return False
        descriptor = disk.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        disk.ftruncate(descriptor, limit - len(LAST_LINE))
        write_all(descriptor, LAST_LINE)
    finally:
        os.close(descriptor)
    return True
