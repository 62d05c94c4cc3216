"""What a process of the pool runs: wait, become the actor one is told to be, live, and exit.

Runs in the child of the forkserver. It leads a process group of its own, tied to the daemon by the lifeline.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import current_process, forkserver, set_start_method
from types import FrameType
from typing import Any

from pop_actors.actors import cgroup
from pop_actors.actors.forkserver import inherited
from pop_actors.actors.lifeline import hold
from pop_actors.actors.link import PARENT, Link
from pop_actors.actors.process_actor import ProcessActor, ProcessContext
from pop_actors.actors.wire import Envelope, FrameReader, Vocabulary
from pop_actors.core.messages import Chat, Exiting, Heartbeat, Json, Ready, Record, Start, Stop, Withdraw
from pop_actors.process_table import become_subreaper

VOCABULARY = Vocabulary((Record, Chat, Withdraw, Json, Start, Stop, Ready, Heartbeat, Exiting))
NORMAL = "normal"
ADDRESS = "POP_ACTORS_ADDRESS"
"""The variable that what an actor starts finds the actor's address in."""

EXIT_SECONDS = 5
START_BYTES = 16384  # at a time; most of what a process is told to be is less


class WorkerLife:
    """What the forkserver's child does, forked with the process's end of its socket and the lifeline's reader."""

    def __init__(self, own_cgroup: str | None, temporary: str) -> None:
        """`temporary`: the daemon's folder for multiprocessing's sockets."""
        self.own_cgroup = own_cgroup
        self.temporary = temporary

    def _bootstrap(self, parent_sentinel: int) -> None:
        os.close(parent_sentinel)
        set_start_method("forkserver", force=True)  # for a task's own processes: a job has threads, and cannot fork
        own: Any = current_process()
        own._config["tempdir"] = self.temporary  # noqa: SLF001  (one of its own nobody would remove when it is killed)
        link, lifeline = inherited()
        os.set_inheritable(link, False)  # noqa: FBT003  (the standard library's own signature)
        main(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=link), lifeline, self.own_cgroup)


def main(connection: socket.socket, lifeline: int, own_cgroup: str | None) -> None:
    """The life of one process, from the pool to its exit. Never returns."""
    os.setpgid(0, 0)
    cgroup.enter(own_cgroup)
    hold(lifeline)
    become_subreaper()  # what its children leave behind stays below it while it lives, and so is known to be its own
    _let_go_of_the_forkserver()
    signal.signal(signal.SIGTERM, _leave_it_to_the_supervisor)
    signal.signal(signal.SIGINT, _leave_it_to_the_supervisor)
    _rename("popd: idle")
    frames = FrameReader()
    start, early = _wait_to_be_told(connection, frames)
    _rename(start.address)
    os.environ[ADDRESS] = start.address
    _limit(start.limits)
    link = Link(connection, VOCABULARY, start.address, start.epoch, frames)
    link.start(early)
    reason = _live(start, link)
    with contextlib.suppress(Exception):  # the daemon may be gone; there is nobody left to tell
        link.send(PARENT, "tell", 0, Exiting(start.address, start.epoch, reason))
    _be_gone_within(EXIT_SECONDS)
    with contextlib.suppress(Exception):  # the actor may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0 if reason == NORMAL else 1)  # threads of a stopped job must not hold its process


def _live(start: Start, link: Link) -> str:
    try:
        module, _, name = start.entry.partition(":")
        cls = getattr(importlib.import_module(module), name)
        context = ProcessContext(start.address, start.epoch, link.ref, link.mailbox, _say_ready_once(start, link))
        actor: ProcessActor = cls(context, **start.arguments)
        actor.run()
    except BaseException as error:
        logging.getLogger("pop_actors.worker").debug("%s failed", start.address, exc_info=error)
        return "".join(traceback.format_exception(error))[-4000:]
    return NORMAL


def _say_ready_once(start: Start, link: Link) -> Callable[[], None]:
    words = [Ready(start.address, start.epoch)]

    def ready() -> None:
        if words:
            link.send(PARENT, "tell", 0, words.pop())

    return ready


def _wait_to_be_told(connection: socket.socket, frames: FrameReader) -> tuple[Start, list[Envelope]]:
    """What to be, and what came right behind it."""
    while True:
        chunk = connection.recv(START_BYTES)
        if not chunk:
            os._exit(0)
        envelopes = [VOCABULARY.decode(payload) for payload in frames.feed(chunk)]
        for place, envelope in enumerate(envelopes):
            if isinstance(envelope.body, Start):
                return envelope.body, envelopes[place + 1 :]


def _let_go_of_the_forkserver() -> None:
    """The forkserver ends when nobody holds its pipe any more; neither a job nor what it forks has a say in that."""
    server: Any = forkserver._forkserver  # noqa: SLF001  (there is no public name)
    os.close(server._forkserver_alive_fd)  # noqa: SLF001
    server._forkserver_alive_fd = None  # noqa: SLF001


def _limit(limits: Mapping[str, int]) -> None:
    """Set resource limits, hard ones too, so that a task cannot lift them; none is raised above what it was."""
    for name, wanted in limits.items():
        which = getattr(resource, name)
        _, most = resource.getrlimit(which)
        value = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(which, (value, value))


def _be_gone_within(seconds: int) -> None:
    """From the good-bye on nobody else watches. The kernel ends what is blocked or spins in C code then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(seconds)


def _leave_it_to_the_supervisor(number: int, frame: FrameType | None) -> None:
    """A polite stop is a message; a signal to the whole service must not end a job before it is suspended."""


def _rename(title: str) -> None:
    """Show in ps and top what this process is (15 bytes, the kernel's limit)."""
    descriptor = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, title[-15:].encode())
    os.close(descriptor)
