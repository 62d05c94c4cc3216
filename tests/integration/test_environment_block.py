"""What another process of the same user can read of the daemon's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from pop_actors.environment_block import blot_out
del os.environ["A_KEY"]
blot_out(["A_KEY", "NOT_THERE"])
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_kernel_shows_no_key_once_it_was_blotted_out() -> None:
    """/proc/PID/environ keeps what a process started with; after `blot_out` the secret is not in it, the rest is."""
    environment = {**os.environ, "A_KEY": "sk-very-secret", "ANOTHER": "kept"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        shown = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"sk-very-secret" not in shown
        assert b"ANOTHER=kept" in shown
        process.communicate()


CLOSED = """
import ctypes, subprocess, sys
from pop_actors.environment_block import close_memory

GET = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
close_memory()
exec(GET)
sys.stdout.flush()
subprocess.run([sys.executable, "-c", GET])
open("/proc/self/stat").read()
"""


def test_closed_memory_is_not_dumped_and_what_is_started_is_not_concerned() -> None:
    """PR_GET_DUMPABLE: 0 for the process itself, 1 for a program it runs."""
    done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "1"]
