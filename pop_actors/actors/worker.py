"""What a process of the pool runs: wait, become the actor one is told to be, live, and exit.

Runs in the child of the forkserver. It leads a process group of its own, tied to the daemon by the lifeline.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from types import FrameType

from pop_actors.actors.lifeline import hold
from pop_actors.actors.link import PARENT, RECEIVE_BYTES, Link
from pop_actors.actors.process_actor import ProcessActor, ProcessContext
from pop_actors.actors.wire import Envelope, FrameReader, Vocabulary
from pop_actors.core.messages import Chat, Exiting, Heartbeat, Record, Start, Stop

VOCABULARY = Vocabulary((Record, Chat, Start, Stop, Heartbeat, Exiting))
NORMAL = "normal"


def main(connection: socket.socket, lifeline: Connection) -> None:
    """The life of one process, from the pool to its exit. Never returns."""
    os.setpgid(0, 0)
    hold(lifeline)
    signal.signal(signal.SIGTERM, _leave_it_to_the_supervisor)
    signal.signal(signal.SIGINT, _leave_it_to_the_supervisor)
    _rename("popd: idle")
    frames = FrameReader()
    start, early = _wait_to_be_told(connection, frames)
    _rename(start.address)
    link = Link(connection, VOCABULARY, start.address, start.epoch, frames)
    link.start(early)
    reason = _live(start, link)
    with contextlib.suppress(Exception):  # the daemon may be gone; there is nobody left to tell
        link.send(PARENT, "tell", 0, Exiting(start.address, start.epoch, reason))
    with contextlib.suppress(Exception):  # the actor may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0 if reason == NORMAL else 1)  # threads of a stopped job must not hold its process


def _live(start: Start, link: Link) -> str:
    try:
        module, _, name = start.entry.partition(":")
        cls = getattr(importlib.import_module(module), name)
        context = ProcessContext(start.address, start.epoch, link.ref, link.mailbox)
        actor: ProcessActor = cls(context, **start.arguments)
        actor.run()
    except BaseException as error:
        logging.getLogger("pop_actors.worker").debug("%s failed", start.address, exc_info=error)
        return "".join(traceback.format_exception(error))[-4000:]
    return NORMAL


def _wait_to_be_told(connection: socket.socket, frames: FrameReader) -> tuple[Start, list[Envelope]]:
    """What to be, and what came right behind it."""
    while True:
        chunk = connection.recv(RECEIVE_BYTES)
        if not chunk:
            os._exit(0)
        envelopes = [VOCABULARY.decode(payload) for payload in frames.feed(chunk)]
        for place, envelope in enumerate(envelopes):
            if isinstance(envelope.body, Start):
                return envelope.body, envelopes[place + 1 :]


def _leave_it_to_the_supervisor(number: int, frame: FrameType | None) -> None:
    """A polite stop is a message; a signal to the whole service must not end a job before it is suspended."""


def _rename(title: str) -> None:
    """Show in ps and top what this process is (15 bytes, the kernel's limit)."""
    with open("/proc/self/comm", "w", encoding="utf-8") as file:
        file.write(title[-15:])
