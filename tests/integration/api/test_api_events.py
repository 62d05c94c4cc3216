"""The event stream: what a reader hears, where it goes on, and what becomes of one that does not read."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pop_actors.core import events as e
from pop_actors.core import observations as o
from support.memory_control import AT, Service, eventually


class Frame(dict[str, str]):
    """The fields of one event."""

    @property
    def data(self) -> Any:
        return json.loads(self["data"])


def frames(reply: httpx2.Response) -> Iterator[Frame]:
    found = Frame()
    for line in reply.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
            continue
        if "event" in found:
            yield found
        found = Frame()


def listen(
    unix: httpx2.Client, wanted: int, act: Callable[[], None] = lambda: None, query: str = "", **headers: str
) -> list[Frame]:
    """So many events that are no heartbeat; `act` runs when the stream is open."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with unix.stream("GET", f"/api/events{query}", headers=named) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        stream = frames(reply)
        assert next(stream)["event"] == "heartbeat"
        act()
        heard: list[Frame] = []
        while len(heard) < wanted:
            frame = next(stream)
            if frame["event"] != "heartbeat":
                heard.append(frame)
        return heard


def test_a_reader_hears_jobs_and_the_service(service: Service, unix: httpx2.Client) -> None:
    """Creation, change and service events come in order, with numbers that grow."""

    def act() -> None:
        service.control.create("job-1")
        service.control.happen("job-1", e.JobStarted(at=AT, pid=7))
        service.feed.publish(o.ModeChanged("production", claiming=False))

    heard = listen(unix, 3, act)
    assert [frame["event"] for frame in heard] == ["job:created", "job:updated", "state:change"]
    assert [frame.data.get("state") for frame in heard[:2]] == ["pending", "running"]
    assert heard[2].data == {"change": "mode", "rollout": "production", "claiming": False}
    assert [int(frame["id"]) for frame in heard] == sorted({int(frame["id"]) for frame in heard})


def test_a_reader_of_one_job_hears_only_that_job(service: Service, unix: httpx2.Client) -> None:
    """Events of other jobs and of the service pass it by."""

    def act() -> None:
        for job_id in ("job-1", "job-2", "job-1x"):
            service.control.create(job_id)
        service.feed.publish(o.ModeChanged("production", claiming=False))
        service.control.happen("job-2", e.JobStarted(at=AT, pid=7))

    heard = listen(unix, 2, act, "?jobId=job-2")
    assert [frame.data["id"] for frame in heard] == ["job-2", "job-2"]


def test_a_reader_goes_on_where_it_left(service: Service, unix: httpx2.Client) -> None:
    """With Last-Event-ID it gets all it missed, each once."""
    first = listen(unix, 1, lambda: service.control.create("job-1"))[0]
    service.control.create("job-2")
    service.control.create("job-3")
    heard = listen(unix, 3, lambda: service.control.create("job-4"), last_event_id=first["id"])
    assert [frame.data["id"] for frame in heard] == ["job-2", "job-3", "job-4"]


@pytest.mark.parametrize("number", ["5", "99999999999999999", "nonsense"])
def test_a_reader_that_missed_too_much_is_told_to_read_anew(service: Service, unix: httpx2.Client, number: str) -> None:
    """A number from before the ring, or of an earlier daemon, brings `resync` and what there is."""
    service.control.create("job-1")
    heard = listen(unix, 2, last_event_id=number)
    assert heard[0].data == {"change": "resync"}
    assert heard[1].data["id"] == "job-1"


def test_a_stream_may_end_after_what_is_known(service: Service, unix: httpx2.Client) -> None:
    """`follow=false` replays and ends."""
    service.control.create("job-1")
    reply = unix.get("/api/events?follow=false", headers={"Last-Event-ID": "0"})
    assert [frame["event"] for frame in frames(reply)] == ["heartbeat", "job:created"]


def test_a_quiet_stream_beats(tmp_path: Path) -> None:
    """Heartbeats come without any event, so that a reader knows silence from a dead line."""
    with (
        Service(tmp_path / "root", heartbeat_seconds=0.05) as service,
        httpx2.stream("GET", f"http://127.0.0.1:{service.server.port}/api/events", trust_env=False) as reply,
    ):
        stream = frames(reply)
        assert [next(stream)["event"] for _ in range(3)] == ["heartbeat"] * 3


def test_a_reader_that_does_not_read_is_dropped(service: Service, unix: httpx2.Client) -> None:
    """It costs the daemon bounded memory, is cut off, and others hear everything."""
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stuck.connect(str(service.server.socket_path))
    stuck.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(lambda: service.server.snapshot()["readers"] == 1)
    service.control.create("job-1")

    def flood() -> bool:
        for _ in range(500):
            service.control.happen("job-1", e.JobStarted(at=AT, pid=1))
        return service.server.snapshot()["droppedReaders"] == 1

    eventually(flood)
    eventually(lambda: service.server.snapshot()["readers"] == 0)
    assert listen(unix, 1, lambda: service.control.create("job-2"))[0].data["id"] == "job-2"
    stuck.close()


def test_a_reader_that_leaves_is_forgotten(service: Service, unix: httpx2.Client) -> None:
    """A closed connection leaves nothing behind, even on a quiet stream."""
    with unix.stream("GET", "/api/events"):
        eventually(lambda: service.server.snapshot()["readers"] == 1)
    eventually(lambda: service.server.snapshot()["readers"] == 0)


def test_stopping_ends_every_stream(service: Service, unix: httpx2.Client) -> None:
    """`stop` does not wait for readers to leave; they see a proper end."""
    with unix.stream("GET", "/api/events") as reply:
        eventually(lambda: service.server.snapshot()["readers"] == 1)
        service.server.stop()
        assert [frame["event"] for frame in frames(reply)] == ["heartbeat"]
    assert not service.server.running
