"""Outages, pauses and limits a provider speaks of, over real sockets: who waits, who goes first, who goes elsewhere."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from gateway_world import SECONDS, World, eventually, world

from pop_actors.config import LimitSettings, ProviderSettings
from pop_actors.core.observations import CallQueued, CircuitChanged
from pop_actors.errors import CallFailed
from support.provider_server import ProviderServer

HEALTHY = "slow-20ms"


def ask_many(here: World, count: int, jobs: int = 5, **fields: Any) -> list[Future[dict[str, Any]]]:
    """Distinct calls to one model, of several jobs."""
    return [
        here.begin(HEALTHY, job=f"job-{number % jobs}", text=f"call {number}", ordinal=number, **fields)
        for number in range(count)
    ]


def open_circuit(here: World) -> None:
    """The model fails until its circuit is open."""
    here.server.mood = "fail-500"
    with pytest.raises(CallFailed):
        here.ask(HEALTHY, text="first", timeout=1.5)
    with pytest.raises(CallFailed):
        here.ask(HEALTHY, text="second", timeout=1.5)
    assert here.view()["fake", HEALTHY]["circuit"] != "closed"


@pytest.mark.parametrize("mood", ["fail-500", "fail-529", "reset", "hangup"])
def test_an_outage_is_waited_for_and_everyone_is_answered_after_it(tmp_path: Path, mood: str) -> None:
    """The circuit opens, calls wait instead of failing, one probe at a time is made, and nothing is bought twice."""
    with world(tmp_path, max_retries=20) as here:
        here.server.mood = mood
        asked = ask_many(here, 30)
        here.wait_until_seen(CircuitChanged)
        seen = len(here.server.calls)
        here.server.wait_for_calls(seen + 1)
        here.server.mood = None
        replies = [ask.result(SECONDS)["content"] for ask in asked]
        assert len(set(replies)) == 30
        assert len(here.paid) == 30
        assert [change.open for change in here.of_kind(CircuitChanged)] == [True, False]
        assert (
            len(here.server.calls) <= 30 + 30 + 10
        )  # a try each, those that failed once more, and what was in between


def test_a_pause_the_provider_asks_for_is_kept_by_all(tmp_path: Path) -> None:
    """One call is told to wait a second; calls of other jobs wait as well, and one goes first."""
    with world(tmp_path) as here:
        here.server.mood = "fail-429+after-1s"
        first = here.begin(HEALTHY, text="first")
        here.server.wait_for_calls(1)
        eventually(lambda: here.view()["fake", HEALTHY]["pausedSeconds"] > 0)
        here.server.mood = None
        asked = [first, *ask_many(here, 10)]
        for ask in asked:
            ask.result(SECONDS)
        refused, probe, *others = here.server.calls
        assert probe.since - refused.since >= 1.0
        assert others[0].since - probe.since >= 0.02  # not before the probe was answered
        assert here.of_kind(CircuitChanged) == []


def test_a_provider_that_answers_rubbish_to_everybody_is_left_alone(tmp_path: Path) -> None:
    """A 200 without a reply in it is the model's own failure: after a few of them its circuit opens."""
    with world(tmp_path) as here:
        here.server.mood = "garbage"
        for number in range(5):
            with pytest.raises(CallFailed, match="fake"):
                here.ask(HEALTHY, job=f"job-{number}", text=f"call {number}")
        assert [change.open for change in here.of_kind(CircuitChanged)] == [True]
        here.server.mood = None
        assert here.ask(HEALTHY, text="after it")["content"]
        assert [change.open for change in here.of_kind(CircuitChanged)] == [True, False]


def test_one_who_gets_rubbish_closes_the_way_to_nobody(tmp_path: Path) -> None:
    """While others are answered, what went wrong with one's own replies is one's own."""
    with world(tmp_path) as here:
        for number in range(8):
            here.server.mood = "garbage"
            with pytest.raises(CallFailed):
                here.ask(HEALTHY, job="unlucky", ordinal=number)
            here.server.mood = None
            for other in ("a", "b"):
                here.ask(HEALTHY, job=other, ordinal=number)
        assert here.of_kind(CircuitChanged) == []


def test_a_circuit_is_of_one_model(tmp_path: Path) -> None:
    """While one model's is open, another of the same provider answers at once."""
    with world(tmp_path) as here:
        open_circuit(here)
        here.server.mood = None
        here.ask("ok", timeout=1.0)
        assert here.view()["fake", "ok"]["circuit"] == "closed"


def test_while_a_circuit_is_open_calls_with_a_fallback_take_it(tmp_path: Path) -> None:
    """Without a request to the failing one, and without waiting; those that waited when it opened leave as well."""
    with world(tmp_path, limits={"max_concurrency": 5}) as here, ProviderServer() as other:
        table = ProviderSettings(kind="openai", base_url=other.base_url)
        here.server.mood = "slow-200ms+fail-500"
        here.settings.providers["other"] = table
        here.restart()
        asked = ask_many(here, 20, fallback=("other:ok",))
        for ask in asked:
            assert ask.result(SECONDS)["provider"] == "other"
        assert here.of_kind(CircuitChanged)[0].open
        assert len(here.server.calls) < 20


def test_a_call_without_a_fallback_waits_for_the_probe_until_its_deadline(tmp_path: Path) -> None:
    """Then it fails as a timeout that says what it waited for, without having been sent."""
    with world(tmp_path) as here:
        open_circuit(here)
        here.server.mood = "slow-30s"
        probing = here.begin(HEALTHY, text="probe")
        eventually(lambda: here.server.calls[-1].body["messages"][0]["content"] == "probe")
        seen = len(here.server.calls)
        with pytest.raises(CallFailed, match=f"fake, {HEALTHY}: .* waited for the one request that tries") as failed:
            here.ask(HEALTHY, text="waits", timeout=0.3)
        assert failed.value.code == "timeout"
        assert len(here.server.calls) == seen
        assert not probing.done()


def test_a_model_has_limits_of_its_own(tmp_path: Path) -> None:
    """Two at once of this model, four of the provider's; the view shows both."""
    limits = {"max_concurrency": 4, "models": {HEALTHY: LimitSettings(max_concurrency=2)}}
    with world(tmp_path, limits=limits) as here:
        for ask in ask_many(here, 12):
            ask.result(SECONDS)
        assert here.server.most_at_once == 2
        row = here.view()["fake", HEALTHY]
        assert (row["limits"]["maxConcurrency"], row["modelLimits"]["maxConcurrency"]) == (4, 2)


@pytest.mark.parametrize("kind", ["input_tokens_per_minute", "output_tokens_per_minute", "tokens_per_minute"])
def test_tokens_of_each_kind_hold_the_next_request_back(tmp_path: Path, kind: str) -> None:
    """450 in and 450 out of a limit of 500 (1000 together): the next call waits, and says for what."""
    most = 1000 if kind == "tokens_per_minute" else 500
    with world(tmp_path, limits={kind: most}) as here:
        here.ask("usage-450-450")
        with pytest.raises(CallFailed, match=kind):
            here.ask("usage-450-450", ordinal=2, timeout=0.2)
        assert len(here.server.calls) == 1


def test_requests_of_a_day_have_an_end(tmp_path: Path) -> None:
    """The fourth of three waits for tomorrow, or its deadline."""
    with world(tmp_path, limits={"requests_per_day": 3}) as here:
        for ordinal in range(3):
            here.ask("ok", ordinal=ordinal)
        with pytest.raises(CallFailed, match="requests_per_day"):
            here.ask("ok", ordinal=4, timeout=0.2)
        assert here.view()["fake", "ok"]["used"]["requestsPerDay"] == 3


def test_limits_outlive_the_gateway(tmp_path: Path) -> None:
    """What was asked before a restart still counts: of a day, of a minute, in requests and in tokens."""
    with world(tmp_path, limits={"requests_per_day": 3, "tokens_per_minute": 100_000}) as here:
        for ordinal in range(2):
            here.ask("usage-450-50", ordinal=ordinal)
        here.restart()
        used = here.view()["fake", "usage-450-50"]["used"] if here.ask("usage-450-50", ordinal=3) else {}
        assert (used["requestsPerMinute"], used["requestsPerDay"], used["tokensPerMinute"]) == (3, 3, 1500)
        with pytest.raises(CallFailed, match="requests_per_day"):
            here.ask("ok", ordinal=4, timeout=0.2)


def test_what_a_provider_says_is_left_is_not_exceeded(tmp_path: Path) -> None:
    """Its headers say that nothing is left: the next call is not sent, although no limit is set."""
    with world(tmp_path) as here:
        here.ask("left-0-of-10")
        with pytest.raises(CallFailed, match="the requests the provider says are left"):
            here.ask("left-0-of-10", ordinal=2, timeout=0.2)
        assert len(here.server.calls) == 1
        assert here.view()["fake", "left-0-of-10"]["learned"]["requestsPerPeriod"] == 10


def test_a_higher_priority_is_served_more_and_not_alone(tmp_path: Path) -> None:
    """Of two jobs that wait for one place, the one that ranks two steps higher gets most turns, the other some."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        held = here.begin("slow-300ms", text="held")
        here.server.wait_for_calls(1)
        asked = [
            here.begin(HEALTHY, job=job, priority=priority, text=f"{job} {number}")
            for number in range(20)
            for job, priority in (("low", 0), ("high", 2))
        ]
        here.wait_until_seen(CallQueued, 41)
        for ask in [held, *asked]:
            ask.result(SECONDS)
        order = [call.body["messages"][0]["content"].split()[0] for call in here.server.calls[1:21]]
        assert order.count("high") > 2 * order.count("low") > 0


def test_a_provider_that_takes_few_at_once_is_found_out(tmp_path: Path) -> None:
    """Refused for being many, calls go on with fewer at once; the view says how many."""
    with world(tmp_path) as here:
        here.server.mood = "slow-20ms+fail-429-1"
        for ask in ask_many(here, 40):
            ask.result(SECONDS)
        learned = here.view()["fake", HEALTHY]["learned"]["maxConcurrency"]
        assert learned is not None
        assert 1 <= learned < 40
        assert len(here.paid) == 40


def is_well(row: dict[str, Any]) -> bool:
    return row["circuit"] == "closed" and not row["pausedSeconds"]


@pytest.mark.faults
def test_a_storm_of_moods_is_lived_through(tmp_path: Path) -> None:
    """1000 calls of 50 jobs against a provider that answers in 200 ms, fails in every way it knows, and comes back: its
    places are never exceeded, no call is lost or bought twice, and no job is left behind."""
    moods = ["fail-429+after-500ms", "fail-500", "reset", "hangup", "cut", "fail-503", "fail-529"]
    with world(tmp_path, limits={"max_concurrency": 64}, max_retries=30) as here:
        # jobs that have called before: a job whose journal is still being read comes to the lane after the others
        for first in [here.begin("m", job=f"job-{number}", text=f"first {number}") for number in range(50)]:
            first.result(SECONDS)
        here.server.mood = "slow-200ms"
        answered_to: list[str] = []
        asked = []
        for number in range(1000):
            job = f"job-{number % 50}"
            ask = here.begin("m", job=job, text=f"call {number}", timeout=300.0)
            ask.add_done_callback(lambda _, job=job: answered_to.append(job))
            asked.append(ask)
        for mood in moods:
            here.server.mood = mood
            here.server.wait_for_calls(len(here.server.calls) + 3, SECONDS)
            here.server.mood = "slow-200ms"
            answered = len(here.paid)
            eventually(lambda answered=answered: len(here.paid) >= min(1050, answered + 40))
            # what was on its way counts as answered, too; while the circuit is open, each failed probe doubles its rest
            eventually(lambda: is_well(here.view()["fake", "m"]))
        assert len({ask.result(300)["content"] for ask in asked}) == 1000
        assert len({event.key for _, event in here.paid}) == len(here.paid) == 1050
        assert here.server.most_at_once <= 64
        last = {job: place for place, job in enumerate(answered_to, start=1)}
        assert max(last.values()) <= 2 * min(last.values())
