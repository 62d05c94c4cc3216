"""Imported by the forkserver: orphans below it become its children, and when the daemon is gone it ends them all.

A worker's orphans come here when the worker is gone, whatever session or group they fled to. The daemon ends them then;
where it is dead, this does. Nobody else imports this module: import is the one hook that multiprocessing's preload
offers.
"""

from __future__ import annotations

import atexit
import os
import warnings

from pop_actors.process_table import become_subreaper, descendants_of, end_all

LAST_SECONDS = 10.0


def _end_everybody() -> None:
    if os.getpid() == _FORKSERVER:  # a forked copy that ends in Python's own way has nobody to end
        end_all(lambda: descendants_of(_FORKSERVER), LAST_SECONDS)


_FORKSERVER = os.getpid()
become_subreaper()
atexit.register(_end_everybody)
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")  # an orphan's, as intended
