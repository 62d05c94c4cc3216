"""A call that nobody wants any more is cut at its connection; one whose job died is not, since its reply is money."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import SECONDS, World, eventually, world

from pop_actors.core.observations import CallQueued
from pop_actors.errors import CallFailed
from pop_actors.gateway import EmbeddedGateway, GatewaySettings, ProviderSettings
from pop_actors.providers import exchange
from pop_actors.providers.http_connection import Connection
from support.provider_server import ProviderServer


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def is_held(here: World) -> None:
    eventually(lambda: here.server.held == 1)


def is_cut(here: World) -> None:
    eventually(lambda: here.server.held == 0)


@pytest.mark.parametrize("model", ["hole-1", "stall-1", "streamstall-1"])
def test_a_call_that_is_withdrawn_is_cut_and_its_place_is_free(tmp_path: Path, model: str) -> None:
    """Before its first byte, after its head, in the middle of a stream: the provider sees the connection close, the
    journal says cancelled, and the next call goes."""
    with world(tmp_path, limits={"max_concurrency": 1, "stream": "always"}) as here:
        asked = here.begin(model, ask="a")
        is_held(here)
        waiting = here.begin("ok", ordinal=2, ask="b")
        here.withdraw("a")
        is_cut(here)
        with pytest.raises(CallFailed, match="gave it up") as failed:
            asked.result(SECONDS)
        assert failed.value.code == "cancelled"
        assert waiting.result(SECONDS)["content"]
        assert sorted(here.types()) == ["failed", "paid", "sent", "sent"]
        (record,) = (record for record in here.journal() if record["type"] == "failed")
        assert record["error"]["code"] == "cancelled"
        row = here.view()["fake", model]
        assert (row["inFlight"], row["failed"]) == (0, 1)


def test_what_was_withdrawn_while_it_waited_was_never_sent(tmp_path: Path) -> None:
    """It leaves its queue, and no line in the journal."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        here.begin("hole-1", ask="a")
        is_held(here)
        waiting = here.begin("ok", ordinal=2, ask="b")
        here.wait_until_seen(CallQueued, 2)
        here.withdraw("b")
        with pytest.raises(CallFailed, match="gave it up"):
            waiting.result(SECONDS)
        assert here.types() == ["sent"]
        assert here.view()["fake", "ok"]["waiting"] == 0


def test_a_call_that_others_wait_for_goes_on(here: World) -> None:
    """Two asks of one call: it ends with the second."""
    asked = [here.begin("hole-1", ask=name) for name in ("a", "b")]
    is_held(here)
    here.withdraw("a")
    here.withdraw("a")
    asked.append(here.begin("hole-1", ask="c"))
    here.withdraw("b")
    here.withdraw("c")
    is_cut(here)
    assert {str(one.exception(SECONDS)) for one in asked} == {"whoever asked gave it up"}
    assert len(here.server.calls) == 1


def test_asked_again_at_once_it_is_another_request(here: World) -> None:
    """The one that was given up does not take its successor along."""
    here.begin("hole-1", ask="a")
    is_held(here)
    here.withdraw("a")
    assert here.ask("hole-1", ask="b")["content"]
    assert sorted(here.types()) == ["failed", "paid", "sent", "sent"]


def test_a_reply_that_is_here_is_not_given_up(here: World) -> None:
    """Paid is paid: it is found when it is asked for again."""
    here.ask("ok", ask="a")
    here.withdraw("a")
    assert here.ask("ok", ask="b")["replayed"] is True


@pytest.mark.parametrize("how", ["withdrawn", "stopped", "gone"])
def test_what_a_broken_stream_had_used_is_booked_although_the_call_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """While its bill is on the way to the disk: the money is told all the same, and nothing more is asked for."""
    syncing, go_on, real = threading.Event(), threading.Event(), os.fdatasync

    def slow_disk(descriptor: int) -> None:
        syncing.set()
        assert go_on.wait(SECONDS)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow_disk)
    with world(tmp_path, limits={"stream": "always"}) as here:
        asked = here.begin("unfinished-1+usage-12-34", ask="a")
        assert syncing.wait(SECONDS)
        {"withdrawn": lambda: here.withdraw("a"), "stopped": lambda: here.job_stopped("job-1"),
         "gone": lambda: here.job_gone("job-1")}[how]()  # fmt: skip
        go_on.set()
        assert isinstance(asked.exception(SECONDS), CallFailed)
        assert [event.output_tokens for _, event in here.paid] == [34]
        assert len(here.server.calls) == 1


def test_each_broken_stream_of_a_call_that_is_asked_again_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given up and is the same call again: every bill has a key of its own all the same."""
    syncing, go_on, real = threading.Event(), threading.Event(), os.fdatasync

    def slow_disk(descriptor: int) -> None:
        syncing.set()
        assert go_on.wait(SECONDS)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow_disk)
    model = "unfinished-2+usage-12-34"
    with world(tmp_path, limits={"stream": "always"}) as here:
        here.begin(model, ask="a")
        assert syncing.wait(SECONDS)
        here.withdraw("a")
        go_on.set()
        eventually(lambda: len(here.paid) == 1)
        assert here.ask(model, ask="b")["content"]
        bills = [record["key"] for record in here.journal() if "usage" in record]
        assert len(set(bills)) == len(bills) == len(here.server.calls) == 3
        assert [event.key for _, event in here.paid] == bills


@pytest.mark.parametrize("how", ["withdrawn", "stopped", "closed"])
def test_a_reply_whose_connection_is_still_seen_off_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The stream is over, its body is not: what was said is here, and is not lost with the asker."""
    seen_off = threading.Event()
    monkeypatch.setattr(exchange, "FAREWELL_SECONDS", 2 * SECONDS)

    real = exchange.Exchange._see_off

    async def see_off(self: exchange.Exchange, connection: Connection) -> None:
        seen_off.set()
        await real(self, connection)

    monkeypatch.setattr(exchange.Exchange, "_see_off", see_off)
    with world(tmp_path, limits={"stream": "always"}) as here:
        here.begin("hold", ask="a")
        assert seen_off.wait(SECONDS)
        {"withdrawn": lambda: here.withdraw("a"), "stopped": lambda: here.job_stopped("job-1"), "closed": here.restart}[
            how
        ]()
        eventually(lambda: len(here.paid) == 1)
        assert here.ask("hold", ask="b")["replayed"] is True
        assert len(here.server.calls) == 1


def test_the_calls_of_a_job_that_is_stopped_are_cut(here: World) -> None:
    """Those of others are not."""
    stopped = [here.begin("hole", ordinal=ordinal) for ordinal in (1, 2)]
    here.begin("hole", job="job-2")
    eventually(lambda: here.server.held == 3)
    here.job_gone("job-1")
    here.job_stopped("job-1")
    eventually(lambda: here.server.held == 1)
    for asked in stopped:
        with pytest.raises(CallFailed, match="stopped"):
            asked.result(SECONDS)
    assert sorted(here.types()) == ["failed", "failed", "sent", "sent"]
    assert here.types("job-2") == ["sent"]


def test_an_asker_that_died_does_not_hold_what_its_successor_gives_up(here: World) -> None:
    """The job's next process asks the same, and withdraws it: nobody is left who wants it."""
    here.begin("hole-1", ask="of the dead")
    is_held(here)
    here.job_gone("job-1")
    here.withdraw("of the dead")
    asked = here.begin("hole-1", ask="of the living")
    here.withdraw("of the living")
    is_cut(here)
    assert isinstance(asked.exception(SECONDS), CallFailed)
    assert len(here.server.calls) == 1


def test_a_task_that_loses_patience_cuts_its_call(tmp_path: Path) -> None:
    """`asyncio.wait_for` around `achat`, through the whole way; the session goes on."""
    with ProviderServer() as server:
        settings = GatewaySettings(
            default_provider="fake", providers={"fake": ProviderSettings(kind="openai", base_url=server.base_url)}
        )
        with EmbeddedGateway(tmp_path, settings, {}) as gateway:
            session = gateway.session("impatient")

            async def impatient() -> None:
                asked = asyncio.create_task(session.achat("hi", model="hole-1"))
                await asyncio.to_thread(eventually, lambda: server.held == 1)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asked, 0.01)

            asyncio.run(impatient())
            eventually(lambda: server.held == 0)
            assert session.chat("hi", model="ok").content
            eventually(lambda: [row["inFlight"] for row in gateway.view() if row["model"] == "hole-1"] == [0])
