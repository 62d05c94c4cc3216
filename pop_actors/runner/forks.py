"""Keeps a task's code in its process: a copy it forks off does not become a second runner."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def here_only(work: Callable[[], T]) -> T:
    """Run a task's code. A copy of the process that was forked off in it, and that comes back out of it, ends here."""
    owner = os.getpid()
    try:
        value = work()
    except BaseException:
        if os.getpid() != owner:
            os._exit(1)
        raise
    if os.getpid() != owner:
        os._exit(0)
    return value
