"""One run of a command that answers on its standard output: what it is told goes in, its answer comes out, nothing of
it is left behind.

It leads a session and a process group of its own, and the group is killed when the answer is here, at the deadline,
when the caller leaves, and, by the kernel, when this process is gone. It is handed its three streams, the rope it hangs
on (see `actors.lifeline`), and the environment it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

F_SETSIG = 10  # Linux, <fcntl.h>; Python's fcntl module has no name for it before 3.13
MOST_OUTPUT = 16 * 1024 * 1024
LAST_WORDS = 2000
EXIT_SECONDS = 1.0  # for leaving by itself once it has answered, and for its last output once it has left
KILL_SECONDS = 5.0
STDIN, STDOUT = 0, 1


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it. `errors`: the end of its standard error. `code`: its exit status, a signal's negative; None
    where it had answered and did not leave by itself."""

    output: bytes
    errors: str
    code: int | None


class TooMuchOutput(Exception):
    """It wrote more than `MOST_OUTPUT` bytes."""


async def run(
    command: Sequence[str],
    told: bytes,
    *,
    environment: Mapping[str, str],
    folder: str,
    is_whole: Callable[[bytes], bool],
    deadline: float,
) -> Ended:
    """Run it in that folder until `is_whole(output)` or its end, whichever is first.

    OSError where it cannot be started, TimeoutError at the deadline (the loop's time), TooMuchOutput.
    """
    loop = asyncio.get_running_loop()
    rope = _Rope()
    try:
        transport, watched = await loop.subprocess_exec(
            lambda: _Watched(is_whole),
            *command,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            pass_fds=(rope.end,),
        )
        try:
            rope.tie(transport.get_pid())
            writer = cast("asyncio.WriteTransport", transport.get_pipe_transport(STDIN))
            writer.write(told)
            writer.write_eof()
            async with asyncio.timeout_at(deadline):
                await watched.answered
            await asyncio.wait({watched.gone}, timeout=EXIT_SECONDS)
            return Ended(bytes(watched.output), watched.last_words(), transport.get_returncode())
        finally:
            rope.cut()
            try:
                await asyncio.wait({watched.gone}, timeout=KILL_SECONDS)
            finally:
                transport.close()
    finally:
        rope.cut()
        os.close(rope.end)


class _Rope:
    """A pipe that hangs up when we let go or are gone; then the kernel kills the group tied to its end.

    The kernel knows the group itself and not its number, which may be another's by then.
    """

    def __init__(self) -> None:
        self.end, self._held = os.pipe()

    def tie(self, group: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            fcntl.fcntl(self.end, fcntl.F_SETOWN, -group)
            fcntl.fcntl(self.end, F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(self.end, fcntl.F_SETFL, fcntl.fcntl(self.end, fcntl.F_GETFL) | os.O_ASYNC)

    def cut(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


class _Watched(asyncio.SubprocessProtocol):
    """`answered`: the output is whole, or no more will come. `gone`: the process has ended."""

    def __init__(self, is_whole: Callable[[bytes], bool]) -> None:
        self.output = bytearray()
        self._errors = bytearray()
        self._is_whole = is_whole
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()

    def last_words(self) -> str:
        return self._errors.decode("utf-8", "replace").strip()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != STDOUT:
            self._errors = (self._errors + data)[-LAST_WORDS:]
            return
        self.output += data
        if self.answered.done():
            return
        if len(self.output) > MOST_OUTPUT:
            self.answered.set_exception(TooMuchOutput(f"over {MOST_OUTPUT} bytes"))
            self.answered.exception()  # whether or not anybody still waits
        elif self._is_whole(bytes(self.output)):
            self._end()

    def process_exited(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        # something it started may hold its output open
        self._loop.call_later(EXIT_SECONDS, self._end)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._end()

    def _end(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
