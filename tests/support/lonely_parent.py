"""A parent of process actors that a test kills: prints `name pid` for each process once it is where it should be."""

from __future__ import annotations

import os
import signal
import sys

PROCESSES = ("spinning", "stopped", "idle")


def main() -> None:
    """Start them, print, and wait to be killed."""
    from process_world import SOON, World

    with World() as world:
        for name in ("spinning", "stopped"):
            world.start(name)
        grandchild = world.ask("grandchild", name="stopped")
        stopped = world.pid("stopped")
        world.tell("spin", name="spinning")
        spinning = world.peer.told.get(timeout=SOON).epoch
        os.kill(stopped, signal.SIGSTOP)
        (idle,) = world.wait_idle(1)
        print(spinning, stopped, grandchild, idle, flush=True)
        signal.pause()


if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "integration", "actors"))
    main()
