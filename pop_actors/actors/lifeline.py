"""The rope between the daemon and every process it owns: when the daemon is gone, the kernel ends them all.

The daemon keeps the write end of one pipe and never writes. A process arms its own opening of the read end so that
the kernel sends SIGKILL to its whole process group the moment the pipe hangs up: whether it is in Python, in C code
that holds the GIL, or stopped, and with everything it has started. See fcntl(2), F_SETSIG and F_SETOWN.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal

F_SETSIG = 10  # Linux, <fcntl.h>; Python's fcntl module has no name for it before 3.13


class Lifeline:
    """The daemon's end. Every process is handed `reader`; `close()` ends them, as does the daemon's death."""

    def __init__(self) -> None:
        self.reader, self._writer = multiprocessing.Pipe(duplex=False)

    def close(self) -> None:
        """Let go: every armed process group is killed."""
        self._writer.close()
        self.reader.close()


def hold(reader: int) -> None:
    """In the child, once it leads its process group: tie the group's life to the daemon's, which may be over. `reader`
    is closed."""
    descriptor = os.open(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(reader)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        os.read(descriptor, 1)
    except BlockingIOError:
        return
    os.killpg(0, signal.SIGKILL)
