"""A process actor that does what a test tells it: every message is a `Record` whose `job_id` is the verb."""

from __future__ import annotations

import asyncio
import io
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Listener
from typing import Any

from pop_actors.actors.link import Question, RemoteRef
from pop_actors.actors.process_actor import ProcessActor, ProcessContext
from pop_actors.core.messages import Record, Stop

PEER_SECONDS = 10.0


def do(verb: str, argument: str = "", number: int = 0) -> Record:
    """The message that has the actor do something."""
    return Record(verb, argument, number, ())


class _Blocked(io.StringIO):
    """An output whose reader is asleep."""

    def flush(self) -> None:
        threading.Event().wait()


class Stillborn:
    """A worker's life that is over before it is told anything."""

    def __init__(self, *_: object) -> None: ...

    def _bootstrap(self, parent_sentinel: int) -> int:
        return 7


class Echo(ProcessActor):
    """Answers `who` by itself; all else it does with the actor at the address `peer`, or to itself."""

    def __init__(self, context: ProcessContext, deaf: bool = False, fails: bool = False) -> None:
        super().__init__(context)
        self._deaf = deaf
        self._fails = fails
        self._peer = context.ref("peer")

    def on_start(self) -> None:
        if self._fails:
            raise OSError("cannot start")

    def on_receive(self, message: object) -> None:
        if isinstance(message, Stop):
            if not self._deaf:
                self.stop()
            return
        asked = message.message if isinstance(message, Question) else message
        assert isinstance(asked, Record)
        answer = getattr(self, f"do_{asked.job_id}")(asked)
        if isinstance(message, Question):
            message.answer(answer)

    def do_who(self, _: Record) -> dict[str, Any]:
        return {"address": self.context.address, "epoch": self.context.epoch, "pid": os.getpid()}

    def do_tell(self, order: Record) -> None:
        for number in range(order.epoch):
            self._peer.tell(do("told", order.run_id, number))

    def do_ask(self, order: Record) -> Any:
        return self._peer.ask(do("asked", order.run_id), PEER_SECONDS)

    def do_ask_other(self, order: Record) -> Any:
        return self.context.ref(order.run_id).ask(do("asked"), PEER_SECONDS)

    def do_change_mind(self, _: Record) -> Any:
        """Ask, stop waiting for it as asyncio does, and ask again."""

        async def impatient() -> None:
            await asyncio.wait_for(asyncio.wrap_future(self._peer.request(do("late"))), 0.01)

        try:
            asyncio.run(impatient())
        except TimeoutError:
            return self._peer.ask(do("asked", "still here"), PEER_SECONDS)
        return "was answered"

    def do_raise(self, _: Record) -> None:
        raise ValueError("told to raise")

    def do_leave(self, order: Record) -> None:
        os._exit(order.epoch)

    def do_end(self, _: Record) -> None:
        self.stop()

    def do_grandchild(self, _: Record) -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    def do_escape(self, order: Record) -> int:
        """A process in a session of its own whose parent is gone; its pid. It executes a program, or only forks."""
        if order.run_id == "execute":
            command = "setsid sleep 600 > /dev/null & echo $!"
            return int(subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout)
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            os.setsid()
            escaped = os.fork()
            if escaped == 0:
                while True:
                    signal.pause()
            os.write(writer, str(escaped).encode())
            os._exit(0)
        os.waitpid(middle, 0)
        return int(os.read(reader, 32))

    def do_hang_at_exit(self, _: Record) -> None:
        """End well, and then have an output that never takes what is left."""
        sys.stdout = _Blocked()
        self.stop()

    def do_limits(self, _: Record) -> dict[str, Any]:
        return {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_NOFILE", "RLIMIT_DATA")}

    def do_environment(self, order: Record) -> str | None:
        return os.environ.get(order.run_id)

    def do_listen(self, _: Record) -> str:
        """Where multiprocessing puts its sockets here."""
        with Listener(family="AF_UNIX") as listener:
            return str(listener.address)

    def do_sigterm_me(self, _: Record) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "still here"

    def do_garbage(self, _: Record) -> None:
        assert isinstance(self._peer, RemoteRef)
        self._peer.link._socket.sendall(b"\xff\xff\xff\xff and more")

    def do_spin(self, _: Record) -> None:
        """Minutes in C code that holds the GIL."""
        self._peer.tell(do("told", "spinning", os.getpid()))
        re.match(r"(a+)+b", "a" * 64)
