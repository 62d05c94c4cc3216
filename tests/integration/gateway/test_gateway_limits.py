"""Limits, queues and fairness, as the provider sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_world import SECONDS, eventually, world

from pop_actors.core.observations import CallAdmitted, CallQueued, LimitSet
from pop_actors.errors import CallFailed, Refused


def test_never_more_at_once_than_allowed(tmp_path: Path) -> None:
    """Thirty calls, four places: the provider never sees a fifth, and all are answered."""
    with world(tmp_path, limits={"max_concurrency": 4}) as here:
        asked = [here.begin("slow-20ms", ordinal=ordinal) for ordinal in range(30)]
        for ask in asked:
            ask.result(SECONDS)
        assert here.server.most_at_once == 4


def test_requests_come_at_the_pace_of_the_limit(tmp_path: Path) -> None:
    """At 600 a minute a small burst goes at once and the rest a tenth of a second apart."""
    with world(tmp_path, limits={"requests_per_minute": 600}) as here:
        here.ask("ok", ordinal=40)  # opens the client, which takes longer than a call
        asked = [here.begin("ok", ordinal=ordinal) for ordinal in range(40)]
        for ask in asked:
            ask.result(SECONDS)
        arrivals = [call.since for call in here.server.calls[1:]]
        assert arrivals[-1] - arrivals[0] >= 0.7
        assert sum(at - arrivals[0] < 0.3 for at in arrivals) <= 30 + 3 + 2


def test_a_retry_takes_a_permit_like_any_request(tmp_path: Path) -> None:
    """Refused requests count with the provider, and so with the limit."""
    with world(tmp_path, limits={"requests_per_minute": 100}) as here:
        here.ask("fail-503-2")
        assert here.view()["fake", "fail-503-2"]["used"]["requestsPerMinute"] == 3


def test_tokens_of_replies_hold_the_next_request_back(tmp_path: Path) -> None:
    """900 of 1000 tokens were used: the next call does not fit this minute; its deadline says so, nothing is sent."""
    with world(tmp_path, limits={"tokens_per_minute": 1000}) as here:
        here.ask("usage-450-450")
        with pytest.raises(CallFailed) as failed:
            here.ask("usage-450-450", ordinal=2, timeout=0.2)
        assert failed.value.code == "timeout"
        assert len(here.server.calls) == 1
        assert [admitted.granted for admitted in here.of_kind(CallAdmitted)] == [True, False]
        assert here.view()["fake", "usage-450-450"]["used"]["tokensPerMinute"] == 900


def test_a_prompt_over_the_limit_fails_at_once(tmp_path: Path) -> None:
    """It would never be let through, so it does not wait."""
    with world(tmp_path, limits={"tokens_per_minute": 100}) as here:
        with pytest.raises(CallFailed, match="tokens_per_minute") as failed:
            here.ask("ok", text="word " * 1000)
        assert failed.value.code == "bad_request"
        assert here.server.calls == []


def test_a_job_with_much_to_ask_does_not_hold_up_one_with_little(tmp_path: Path) -> None:
    """Twenty calls of one job wait; another job's single call is the next or the one after it."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        many = [
            here.begin("slow-20ms", job="greedy", ordinal=ordinal, text=f"greedy {ordinal}") for ordinal in range(20)
        ]
        here.wait_until_seen(CallQueued, 20)
        one = here.begin("slow-20ms", job="modest", text="modest")
        one.result(SECONDS)
        arrived = [call.body["messages"][0]["content"] for call in here.server.calls]
        assert len(arrived) < 10
        for ask in many:
            ask.result(SECONDS)
        assert here.server.most_at_once == 1


def test_one_job_may_only_have_so_many_waiting(tmp_path: Path) -> None:
    """The call too many is refused with queue_full; another job may still come, until all places are taken."""
    settings = {"limits": {"max_concurrency": 1}, "max_waiting_per_job": 2, "max_waiting": 3}
    with world(tmp_path, **settings) as here:
        held = here.begin("slow-500ms")
        here.server.wait_for_calls(1)
        waiting = [here.begin("ok", ordinal=ordinal) for ordinal in (2, 3)]
        here.wait_until_seen(CallQueued, 3)
        with pytest.raises(CallFailed, match="max_waiting_per_job") as failed:
            here.ask("ok", ordinal=4)
        assert failed.value.code == "queue_full"
        other = here.begin("ok", job="job-2")
        here.wait_until_seen(CallQueued, 5)
        with pytest.raises(CallFailed, match=r"gateway\.max_waiting is 3"):
            here.ask("ok", job="job-3")
        for ask in (held, *waiting, other):
            assert ask.result(SECONDS)["content"]


def test_a_limit_is_changed_live(tmp_path: Path) -> None:
    """More places are used at once by those who wait; the answer and the feed say what holds now."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        asked = [here.begin("slow-200ms", ordinal=ordinal) for ordinal in range(3)]
        here.server.wait_for_calls(1)
        now = here.set_limits("fake", max_concurrency=3)
        assert {name for name, value in now.items() if value is not None} == {"maxConcurrency"}
        assert now["maxConcurrency"] == 3
        here.server.wait_for_calls(3)
        assert here.server.most_at_once == 3
        assert here.of_kind(LimitSet)[-1] == LimitSet("fake", "max_concurrency", 3)
        for ask in asked:
            ask.result(SECONDS)


@pytest.mark.parametrize(
    "limits", [{"max_concurrency": 0}, {"requests_per_minute": "7"}, {"tokens_per_minute": True}, {"colour": 1}]
)
def test_a_wrong_limit_changes_nothing(tmp_path: Path, limits: dict[str, int]) -> None:
    """Refused with what is allowed."""
    with world(tmp_path, limits={"max_concurrency": 2}) as here:
        with pytest.raises(Refused) as refused:
            here.set_limits("fake", **limits)
        assert refused.value.code == "bad_limit"
        assert here.view()["fake", None]["limits"]["maxConcurrency"] == 2


def test_waiting_ends_at_the_deadline_and_leaves_no_trace(tmp_path: Path) -> None:
    """A call that gave up waiting takes no place later."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        held = here.begin("slow-400ms")
        here.server.wait_for_calls(1)
        with pytest.raises(CallFailed) as failed:
            here.ask("ok", ordinal=2, timeout=0.1)
        assert failed.value.code == "timeout"
        held.result(SECONDS)
        assert here.ask("ok", ordinal=3)["content"]
        eventually(lambda: here.view()["fake", "ok"]["used"]["concurrency"] == 0)
        assert len(here.server.calls) == 2


def test_the_view_shows_who_waits_and_who_is_on_the_way(tmp_path: Path) -> None:
    """Per model, with the provider's limits, and a row for providers nobody has used."""
    with world(tmp_path, limits={"max_concurrency": 1}) as here:
        asked = [here.begin("slow-200ms", ordinal=ordinal) for ordinal in range(3)]
        here.server.wait_for_calls(1)
        here.wait_until_seen(CallQueued, 3)
        row = here.view()["fake", "slow-200ms"]
        assert (row["inFlight"], row["waiting"], row["limits"]["maxConcurrency"]) == (1, 2, 1)
        assert here.view()["offline", "offline-1"]["requests"] == 0
        for ask in asked:
            ask.result(SECONDS)
