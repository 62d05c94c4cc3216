"""Imported by the forkserver: orphans below it become its children, and when the daemon is gone it ends them all.

A worker's orphans come here when the worker is gone, whatever session or group they fled to. The daemon ends them then;
where it is dead, this does. Where the forkserver itself fails, all goes over to the daemon and lives on. Nobody else
imports this module: import is the one hook that multiprocessing's preload offers.
"""

from __future__ import annotations

import atexit
import os
import sys
import warnings

from pop_actors.process_table import become_subreaper, descendants_of, end_all

LAST_SECONDS = 10.0


def _end_everybody() -> None:
    if os.getpid() != _FORKSERVER:  # a forked copy that ends in Python's own way has nobody to end
        return
    has_failed = hasattr(sys, "last_value")
    if not has_failed or os.getppid() != _DAEMON:
        end_all(lambda: descendants_of(_FORKSERVER), LAST_SECONDS)


_FORKSERVER, _DAEMON = os.getpid(), os.getppid()
become_subreaper()
atexit.register(_end_everybody)
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")  # an orphan's, as intended
