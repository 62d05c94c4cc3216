"""Money is journaled before it is used: replay, joining, group commit, torn ends, jobs that go."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_world import SECONDS, World, chat_message, eventually, world

from pop_actors.core.observations import CallEnded, CallQueued, CallReplayed
from pop_actors.errors import CallFailed
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway import paid_calls, purchase
from pop_actors.system.gateway.journal import Journals
from support.provider_server import ProviderServer


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_the_same_call_asked_again_is_replayed(here: World) -> None:
    """Same reply, marked as replayed; one request, one booking."""
    bought, again = here.ask(), here.ask()
    assert again == {**bought, "replayed": True}
    assert len(here.server.calls) == 1
    assert len(here.paid) == len(here.of_kind(CallEnded)) == len(here.of_kind(CallReplayed)) == 1


def test_a_reply_outlives_the_gateway_that_bought_it(here: World) -> None:
    """Another gateway finds it in the journal."""
    bought = here.ask()
    here.restart()
    assert here.ask() == {**bought, "replayed": True}
    assert len(here.server.calls) == 1


@pytest.mark.parametrize(
    "other",
    [{"run_id": "pl-2"}, {"task": "other"}, {"attempt": 2}, {"stage": "critique"}, {"round": 1}, {"ordinal": 2},
     {"text": "other"}, {"maxTokens": 9}, {"provider": "deepseek"}],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_another_call_is_bought(here: World, other: dict[str, object]) -> None:
    """Whatever of the key differs, it is another purchase."""
    here.ask()
    assert here.ask(**other)["replayed"] is False
    assert len(here.server.calls) == 2


def test_the_journal_says_what_the_contract_says(here: World) -> None:
    """sent, then paid, with every field by its name, and the same key and request hash in both."""
    reply = here.ask()
    sent, paid = here.journal()
    fields = {"type", "key", "task", "attempt", "stage", "round", "ordinal", "requestSha256", "provider", "model", "at"}
    assert fields <= sent.keys()
    assert fields | {"reply", "usage", "costUsd"} <= paid.keys()
    assert (sent["key"], sent["requestSha256"]) == (paid["key"], paid["requestSha256"])
    assert paid["reply"] == reply


def test_sent_stands_in_the_journal_before_the_provider_hears(here: World) -> None:
    """While the provider still thinks, the line is there."""
    asked = here.begin("slow-300ms")
    here.server.wait_for_calls(1)
    assert here.types() == ["sent"]
    asked.result(SECONDS)
    assert here.types() == ["sent", "paid"]


def test_a_call_in_flight_is_joined_and_not_bought_twice(here: World) -> None:
    """Two askers, one purchase, the same reply."""
    first = here.begin("slow-200ms")
    here.server.wait_for_calls(1)
    second = here.begin("slow-200ms")
    assert first.result(SECONDS) == second.result(SECONDS)
    assert len(here.server.calls) == len(here.paid) == 1


def test_a_purchase_goes_on_without_its_asker(here: World) -> None:
    """The job died while the provider thought: the reply is written, booked, and replayed to the job's next life."""
    asked = here.begin("slow-300ms")
    here.server.wait_for_calls(1)
    asked.cancel()
    here.job_gone("job-1")
    here.wait_until_seen(CallEnded)
    assert here.types() == ["sent", "paid"]
    assert len(here.paid) == 1
    assert here.ask("slow-300ms")["replayed"] is True
    assert len(here.server.calls) == 1


def test_a_job_that_comes_back_joins_what_its_last_life_began(here: World) -> None:
    """Asked again by the next process while the first purchase is still under way: one request."""
    here.begin("slow-400ms").cancel()
    here.server.wait_for_calls(1)
    here.job_gone("job-1")
    assert here.ask("slow-400ms")["content"].startswith("reply")
    assert len(here.server.calls) == 1
    assert here.types() == ["sent", "paid"]


def test_what_a_dead_job_only_waited_for_is_not_bought(tmp_path: Path) -> None:
    """Its queued calls are dropped, another job's go on."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        first = here.begin("slow-300ms", ordinal=1)
        here.server.wait_for_calls(1)
        waiting = [here.begin("ok", ordinal=ordinal) for ordinal in (2, 3)]
        other = here.begin("ok", job="job-2")
        here.wait_until_seen(CallQueued, 4)
        here.job_gone("job-1")
        assert first.result(SECONDS)["content"]
        assert other.result(SECONDS)["content"]
        for asked in waiting:
            with pytest.raises(CallFailed, match="process ended"):
                asked.result(SECONDS)
        assert len(here.server.calls) == 2
        assert here.view()["fake", "ok"]["waiting"] == 0


def test_a_journal_is_closed_when_its_job_is_gone(here: World) -> None:
    """No descriptor is left behind by jobs that ended."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        here.ask(job=f"job-{number}")
    here.ask(job="job-0", ordinal=2)
    for number in range(20):
        here.job_gone(f"job-{number}")
    assert len(os.listdir("/proc/self/fd")) <= before + 10


def test_a_job_whose_directory_is_gone_gets_nothing(here: World) -> None:
    """cancelled, and no request."""
    here.ask()
    here.workspace.complete.mkdir(parents=True)
    here.workspace.job("job-1").path.rename(here.workspace.finished("job-1").path)
    asked = here.loop.submit(here.gateway.chat(chat_message("ok", ordinal=2)))
    with pytest.raises(CallFailed) as failed:
        asked.result(SECONDS)
    assert failed.value.code == "cancelled"
    assert len(here.server.calls) == 1


def test_a_reply_follows_a_directory_that_moves(here: World) -> None:
    """The job finished while a call was under way: the reply is written where the journal now is."""
    asked = here.begin("slow-300ms")
    here.server.wait_for_calls(1)
    here.workspace.complete.mkdir(parents=True)
    here.workspace.job("job-1").path.rename(here.workspace.finished("job-1").path)
    asked.result(SECONDS)
    events = list(paid_calls(here.workspace.finished("job-1").calls))
    assert [event.key for event in events] == [here.paid[0][1].key]


def test_a_new_directory_of_the_same_name_has_a_journal_of_its_own(here: World) -> None:
    """A job resubmitted under the old id writes to its own file, not to the one moved away."""
    here.ask()
    here.workspace.rejected.mkdir(parents=True)
    here.workspace.job("job-1").path.rename(here.workspace.rejected / "job-1")
    here.ask(run_id="pl-2")
    assert here.types() == ["sent", "paid"]
    assert len((here.workspace.rejected / "job-1" / "llm-calls.jsonl").read_text().splitlines()) == 2


def test_a_torn_end_is_cut_and_the_rest_counts(here: World) -> None:
    """A kill in the middle of a line loses that line only; the next record begins on a line of its own."""
    bought = here.ask()
    calls = here.workspace.job("job-1").calls
    here.restart()
    with calls.open("ab") as file:
        file.write(b'{"type":"paid","key":"ab')
    assert here.ask() == {**bought, "replayed": True}
    here.ask(ordinal=2)
    assert here.types() == ["sent", "paid", "sent", "paid"]


def test_a_broken_line_is_passed_over(here: World) -> None:
    """What a power cut left in the middle does not take the other replies with it."""
    bought = here.ask()
    calls = here.workspace.job("job-1").calls
    here.restart()
    with calls.open("ab") as file:
        file.write(b"\0\0\0\0\n[]\n" + b'{"type":"paid","key":"x"}\n')
    here.ask(ordinal=2)
    here.restart()
    assert here.ask() == {**bought, "replayed": True}
    assert [event.input_tokens for event in paid_calls(calls)] == [12, 12]


def test_paid_calls_are_the_events_that_were_told(here: World) -> None:
    """Recovery books exactly what the live way booked, by key; a run's own where one is named."""
    here.ask(ordinal=1)
    here.ask(ordinal=2)
    here.ask(run_id="pl-2")
    calls = here.workspace.job("job-1").calls
    assert list(paid_calls(calls)) == [event for _, event in here.paid]
    assert len(list(paid_calls(calls, "pl-2"))) == 1
    assert list(paid_calls(calls.with_name("none.jsonl"))) == []


def test_replies_that_come_together_share_a_sync(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy with one reply, the others gather and are made durable by one more sync."""
    syncs: list[int] = []
    go_on = threading.Event()
    real = os.fdatasync

    def slow_disk(descriptor: int) -> None:
        syncs.append(descriptor)
        assert go_on.wait(SECONDS)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow_disk)
    asked = [here.begin(ordinal=0)]
    eventually(lambda: len(syncs) == 1)
    asked += [here.begin(ordinal=ordinal) for ordinal in range(1, 12)]
    here.server.wait_for_calls(12)
    eventually(lambda: here.types().count("paid") == 12)
    assert not any(ask.done() for ask in asked)
    assert here.paid == []
    go_on.set()
    assert len({ask.result(SECONDS)["content"] for ask in asked}) == 1
    assert len(syncs) == 2


def test_a_disk_that_refuses_fails_the_call_before_it_is_sent(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is bought that could not be written down."""

    real = os.write

    def full_disk(descriptor: int, content: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("llm-calls.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(CallFailed, match="No space left") as failed:
        here.ask()
    assert failed.value.code == "disk_full"
    assert here.server.calls == []
    assert here.view()["fake", "ok"]["inFlight"] == 0


def test_a_reply_without_room_to_be_written_down_is_kept_until_there_is(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told to ask again, and gets it then; it is bought once and stands there once."""
    monkeypatch.setattr(purchase, "NO_ROOM_SECONDS", 0.01)
    has_room = threading.Event()
    real = os.write

    def full_disk(descriptor: int, content: bytes) -> int:
        if not has_room.is_set() and b'"paid"' in bytes(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", full_disk)
    for _ in range(3):
        with pytest.raises(CallFailed) as failed:
            here.ask()
        assert failed.value.code == "disk_full"
    assert here.paid == []
    has_room.set()
    eventually(lambda: len(here.paid) == 1)
    assert here.ask()["content"]
    assert len(here.server.calls) == 1
    assert here.types() == ["sent", "paid"]


def test_a_device_that_fails_once_or_twice_fails_no_call(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where its journal is opened nor where it is written down as sent; one request leaves."""
    for module in ("journal", "attempts"):
        monkeypatch.setattr(f"pop_actors.system.gateway.{module}.TROUBLE_SECONDS", 0.01)
    refused: list[str] = []

    def failing(kind: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def tried(what: Any, *arguments: Any, **options: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
            if path.endswith("llm-calls.jsonl") and refused.count(kind) < 2:
                refused.append(kind)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return act(what, *arguments, **options)

        return tried

    monkeypatch.setattr(os, "open", failing("open", os.open))
    monkeypatch.setattr(os, "write", failing("write", os.write))
    assert here.ask()["content"]
    assert refused == ["open", "open", "write", "write"]
    assert here.types() == ["sent", "paid"]
    assert len(here.server.calls) == 1


def test_a_reply_that_is_lost_for_want_of_room_is_told_with_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service stops before there is room: an error names the call and the amounts; the journal has it as sent."""
    real = os.write

    def full_disk(descriptor: int, content: bytes) -> int:
        if b'"paid"' in bytes(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content)

    monkeypatch.setattr(os, "write", full_disk)
    with ProviderServer() as server:
        here = World(tmp_path, server)
        with pytest.raises(CallFailed):
            here.ask()
        here.loop.stop()
    (sent,) = here.journal()
    (lost,) = [record.getMessage() for record in caplog.records if "is lost" in record.getMessage()]
    assert lost.startswith(f"{sent['key']} of task {sent['task']} is lost: it was paid (12 input and 34 output tokens")
    assert "llm-calls.jsonl could not be written" in lost


def test_a_reply_that_could_not_be_made_durable_is_not_delivered(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """fdatasync fails: the call fails, and nothing is booked."""

    def broken_disk(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", broken_disk)
    with pytest.raises(CallFailed, match="Input/output error"):
        here.ask()
    assert here.paid == []


def test_who_asks_while_a_journal_is_being_opened_gets_it(tmp_path: Path) -> None:
    """A caller in every turn of the loop, also between the end of the loading and whatever follows it: all get the one
    journal, and the loop turns on."""
    workspace = Workspace(tmp_path, tmp_path)
    held: list[int] = []

    async def ask_in_every_turn() -> None:
        journals = Journals(workspace)
        for number in range(100):
            workspace.job(f"job-{number}").path.mkdir(parents=True)
            callers = [asyncio.create_task(journals.hold(f"job-{number}"))]
            while not callers[0].done():
                callers.append(asyncio.create_task(journals.hold(f"job-{number}")))
                await asyncio.sleep(0)
            got = await asyncio.gather(*callers)
            held.append(len(set(map(id, got))))
            for journal in got:
                journals.release(journal)
        journals.close()

    asking = threading.Thread(target=lambda: asyncio.run(ask_in_every_turn()), daemon=True)
    asking.start()
    asking.join(20)
    assert held == [1] * 100
