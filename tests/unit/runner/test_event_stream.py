"""The stream of a job's events over a status writer that forgets, refuses and answers late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pop_actors.core import events as e
from pop_actors.core.messages import Record
from pop_actors.errors import Refused, Unavailable
from pop_actors.runner import event_stream
from pop_actors.runner.clockwork import Clockwork
from pop_actors.runner.event_stream import EventStream
from support.daemon import wait_until

SOON = 10.0


class Writer:
    """Takes events in sequence only, as the real one does.

    `script` says what happens to each frame, in turn: `take` it, `lose` it, or `crash`, which loses it and all that was
    told since the last barrier.
    """

    address = "status-writer"

    def __init__(self, script: list[str] | None = None) -> None:
        self.log: list[int] = []
        self.frames: list[int] = []
        self._durable = 0
        self._script = list(script or [])
        self._lock = threading.Lock()

    def tell(self, message: object) -> None:
        with self._lock:
            self._take(message)

    def request(self, message: object) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            if not self._take(message):
                answer.set_exception(Unavailable("it is being restarted"))
            elif self.frames[-1] > len(self.log):
                answer.set_exception(Refused("gap", "missing", {"have": len(self.log)}))
            else:
                self._durable = len(self.log)
                answer.set_result(None)
        return answer

    def ask(self, message: object, timeout: float) -> Any:
        raise AssertionError("the stream does not wait for an answer with its lock held")

    def _take(self, message: object) -> bool:
        assert isinstance(message, Record)
        fate = self._script.pop(0) if self._script else "take"
        self.frames.append(message.events[-1]["seq"])
        if fate == "crash":
            del self.log[self._durable :]
        if fate != "take":
            return False
        for event in message.events:
            if event["seq"] == len(self.log) + 1:
                self.log.append(event["seq"])
        return True


@pytest.fixture(scope="module")
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_stream, "ASK_AGAIN_SECONDS", 0.0)
        yield made
    made.stop()


def stream_to(writer: Writer, clockwork: Clockwork) -> EventStream:
    return EventStream(writer, "j", "r", 1, clockwork)


def note(stream: EventStream) -> None:
    stream.note(e.FileWritten, task="t", kind="tmp", name="x")


@settings(max_examples=60, deadline=None)
@given(
    acts=st.lists(st.sampled_from(["note", "report", "confirm"]), max_size=30),
    script=st.lists(st.sampled_from(["take", "lose", "crash"]), max_size=30),
)
def test_the_log_is_gapless_whatever_the_writer_loses(clockwork: Clockwork, acts: list[str], script: list[str]) -> None:
    """After each barrier it has everything so far, once and in order."""
    writer = Writer(script)
    stream = stream_to(writer, clockwork)
    for act in [*acts, "confirm"]:
        getattr(stream, act)(e.FileWritten, task="t", kind="tmp", name="x")
        if act == "confirm":
            assert writer.log == list(range(1, len(writer.log) + 1))
    assert len(writer.log) == len(acts) + 1


def test_what_was_told_is_confirmed_soon_though_nobody_waits(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage may run for an hour; that it began must not be lost with a status writer until then."""
    monkeypatch.setattr(event_stream, "CONFIRM_WITHIN_SECONDS", 0.01)
    writer = Writer(["lose", "crash"])
    stream_to(writer, clockwork).report(e.StageStarted, task="t", stage="parsing")
    wait_until(lambda: writer.log == [1], SOON, "the event to be sent again")


def test_a_flood_of_notes_is_sent_in_bounded_frames_and_kept_bounded(
    clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to ask for it."""
    monkeypatch.setattr(event_stream, "MOST_KEPT", 500)
    writer = Writer()
    stream = stream_to(writer, clockwork)
    for _ in range(5000):
        note(stream)
        assert len(stream._kept) <= 501
    assert writer.frames
    sizes = [later - earlier for earlier, later in pairwise([0, *writer.frames])]
    assert max(sizes) <= event_stream.FRAME_EVENTS


def test_threads_that_report_and_confirm_at_once_lose_nothing(clockwork: Clockwork) -> None:
    """With a writer that crashes every few frames."""
    writer = Writer(["take", "take", "crash", "take", "lose"] * 40)
    stream = stream_to(writer, clockwork)

    def work() -> None:
        for number in range(50):
            (stream.confirm if number % 7 == 0 else stream.report)(e.FileWritten, task="t", kind="tmp", name="x")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result(60)
    stream.confirm(e.FileWritten, task="t", kind="tmp", name="x")
    assert writer.log == list(range(1, 202))


def test_a_log_that_lost_what_it_had_confirmed_ends_the_process(clockwork: Clockwork) -> None:
    """Nothing could be sent again; the next process has an epoch of its own."""
    writer = Writer()
    stream = stream_to(writer, clockwork)
    stream.confirm(e.FileWritten, task="t", kind="tmp", name="x")
    writer.log.clear()
    with pytest.raises(RuntimeError, match="1 were confirmed"):
        stream.confirm(e.FileWritten, task="t", kind="tmp", name="x")


def test_nothing_follows_the_end(clockwork: Clockwork) -> None:
    """What a thread still notes is of no run."""
    writer = Writer()
    stream = stream_to(writer, clockwork)
    stream.end(e.JobDone)
    note(stream)
    stream.report(e.FileWritten, task="t", kind="tmp", name="x")
    assert writer.log == [1]
