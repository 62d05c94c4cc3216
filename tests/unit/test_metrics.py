"""The metrics: their names are the contract's, their text is Prometheus', and their labels stay bounded."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pop_actors import __version__
from pop_actors.core import events as e
from pop_actors.core import observations as o
from pop_actors.metrics import MOST_NAMES, OTHER, BoundedNames, Metrics

AT = "2026-01-02T03:04:05.678Z"
CONTRACT = {
    "jobs": {"state"},
    "jobs_total": {"pipeline", "outcome"},
    "job_duration_seconds": {"pipeline"},
    "job_start_seconds": set(),
    "task_duration_seconds": {"pipeline", "task", "outcome"},
    "stage_duration_seconds": {"stage"},
    "refinements_total": {"pipeline", "task"},
    "seeds_total": {"outcome"},
    "pending_seeds": set(),
    "actor_restarts_total": {"actor", "reason"},
    "actor_mailbox_messages": {"actor"},
    "actor_mailbox_age_seconds": {"actor"},
    "actor_mailbox_dropped_total": {"actor"},
    "actor_mailbox_refused_total": {"actor"},
    "actor_up": {"actor"},
    "status_writes_total": set(),
    "status_write_seconds": set(),
    "status_events_total": set(),
    "llm_requests_total": {"provider", "model", "outcome"},
    "llm_request_seconds": {"provider", "model"},
    "llm_wait_seconds": {"provider"},
    "llm_inflight": {"provider"},
    "llm_waiting": {"provider"},
    "llm_tokens_total": {"provider", "model", "kind"},
    "llm_cost_dollars_total": {"provider", "model"},
    "llm_unknown_price_total": {"provider", "model"},
    "llm_retries_total": {"provider", "reason"},
    "llm_replays_total": {"provider"},
    "llm_cached_replies_total": {"provider"},
    "llm_fallbacks_total": {"provider", "model", "reason"},
    "llm_budget_reached_total": {"scope", "state"},
    "llm_circuit_open": {"provider", "model"},
    "llm_limit": {"provider", "kind"},
    "jobs_over_limit_total": {"resource"},
    "rollout_mode": {"mode"},
    "build_info": {"version"},
}
GEN_AI = {
    "gen_ai_client_operation_duration_seconds": {"error_type"},
    "gen_ai_client_token_usage": {"gen_ai_token_type"},
}
"""Beside the operation, the provider and the model."""
DOCUMENT = {"pipeline": "demo"}
ERROR = e.ErrorInfo(name="ValueError", message="boom")
HISTORY: tuple[o.Observation, ...] = (
    o.SeedSeen("secret-job"),
    o.SeedClaimed("secret-job", "demo"),
    o.SeedTurnedDown("secret-job", "invalid_json", "…"),
    o.SeedIgnored("notes.txt", "no seed"),
    o.FirstStage("secret-job", 0.04),
    o.JobChanged("secret-job", e.StageFinished(at=AT, task="write", stage="parsing", ms=1500), DOCUMENT),
    o.JobChanged(
        "secret-job", e.TaskDone(at=AT, task="write", attempt=1, execution_time=2500, refinements=2), DOCUMENT
    ),
    o.JobChanged(
        "secret-job",
        e.TaskFailed(at=AT, task="write", attempt=3, stage="parsing", reason="exception", error=ERROR),
        DOCUMENT,
    ),
    o.JobFinished("secret-job", "demo", "done", 12.0),
    o.JobOverLimit("secret-job", "memory"),
    o.StatusWritten(2, 9, 0.003),
    o.ActorRestarted("jobs/secret-job", "crashed"),
    o.CallQueued("openai"),
    o.CallQueued("openai"),
    o.CallAdmitted("openai", 0.5, granted=True),
    o.CallRetried("openai", "gpt", "rate_limited"),
    o.CallRetried("openai", "gpt", "server", ambiguous=True),
    o.CallReplayed("openai"),
    o.CallReplayed("openai", cached=True),
    o.CallFellBack("openai", "gpt", "server", "anthropic", "sonnet"),
    o.BudgetReached("job", "secret-job", 0.8, 0.8, 1.0, "fail"),
    o.BudgetReached("job", "secret-job", 1.0, 1.0, 1.0, "fail"),
    o.CallEnded("secret-job", "openai", "gpt", "ok", 1.5, 100, 20, 30, 0, 0.002),
    o.CallEnded("secret-job", "own", "llama", "ok", 1.5, 100, 20),
    o.ModelKnown("openai", "gpt"),
    o.CircuitChanged("openai", "gpt", open=True),
    o.ModelKnown("openai", "gpt"),
    o.ModelKnown("gemini", "flash"),
    o.LimitSet("openai", "requests_per_minute", 60),
    o.LimitSet("openai", "tokens_per_minute", None),
    o.ModeChanged("shadow", claiming=True),
)


def gauges() -> dict[str, Any]:
    return {
        "jobs": {"running": 2},
        "pending_seeds": 3,
        "mailboxes": {"gateway": 2, "jobs/secret-job": 1, "jobs/secret-job/write": 4},
        "mailbox_ages": {"gateway": 0.5, "jobs/secret-job": 1.5, "jobs/secret-job/write": 0.1},
        "mailbox_dropped": {"gateway": 0, "jobs/*": 3},
        "mailbox_refused": {"gateway": 7},
        "up": {"gateway": True, "watcher": False},
    }


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.sample(gauges)
    for observation in HISTORY:
        made.on_observation(observation)
    return made


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample as (name, value of label, …in the labels' order of names): value."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found[(sample.name, *(sample.labels[name] for name in sorted(sample.labels)))] = sample.value
    return found


def test_a_circuit_is_shown_before_anything_has_happened_to_it(metrics: Metrics) -> None:
    """And is not closed by being asked again."""
    assert samples(metrics)["pop_llm_circuit_open", "flash", "gemini"] == 0
    assert samples(metrics)["pop_llm_circuit_open", "gpt", "openai"] == 1


def test_names_and_labels_are_exactly_the_contracts(metrics: Metrics) -> None:
    """Dashboards and alerts rely on every one of them, and on there being no others."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            name = sample.name
            if family.type == "histogram":
                name = family.name
            found.setdefault(name.removeprefix("pop_"), set()).update(sample.labels.keys() - {"le"})
    who = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"}
    assert found == CONTRACT | {name: labels | who for name, labels in GEN_AI.items()}


def test_calls_stand_under_opentelemetrys_names_too(metrics: Metrics) -> None:
    """With its names for providers and its buckets; an error has its code, and a call that used nothing no tokens."""
    metrics.on_observation(o.CallEnded("j", "gemini", "flash", "rate_limited", 0.25))
    metrics.on_observation(o.CallEnded("j", "gemini", "flash", "ok", 3.0, 70, 5, wrote="flash-001"))
    found = samples(metrics)
    seconds, tokens = "gen_ai_client_operation_duration_seconds", "gen_ai_client_token_usage"
    assert found[f"{seconds}_sum", "rate_limited", "chat", "gcp.gemini", "flash", ""] == 0.25
    assert found[f"{seconds}_sum", "", "chat", "gcp.gemini", "flash", "flash-001"] == 3.0
    assert found[f"{tokens}_sum", "chat", "gcp.gemini", "flash", "flash-001", "input"] == 70
    assert found[f"{tokens}_count", "chat", "gcp.gemini", "flash", "flash-001", "output"] == 1
    limits = {name[6] for name in found if name[0] == f"{seconds}_bucket" and name[3] == "gcp.gemini"}
    assert {"0.01", "81.92", "+Inf"} <= limits


def test_observations_move_the_numbers(metrics: Metrics) -> None:
    """Times are seconds, money dollars, levels go up and down."""
    found = samples(metrics)
    assert found["pop_jobs_total", "done", "demo"] == 1
    assert found["pop_stage_duration_seconds_sum", "parsing"] == 1.5
    assert found["pop_task_duration_seconds_sum", "done", "demo", "write"] == 2.5
    assert found["pop_refinements_total", "demo", "write"] == 2
    assert found["pop_status_events_total",] == 9
    assert found["pop_llm_inflight", "openai"] == 0
    assert found["pop_llm_waiting", "openai"] == 1
    assert found["pop_llm_tokens_total", "input", "gpt", "openai"] == 100
    assert found["pop_llm_cost_dollars_total", "gpt", "openai"] == 0.002
    assert found["pop_llm_retries_total", "openai", "ambiguous"] == 1
    assert (found["pop_llm_replays_total", "openai"], found["pop_llm_cached_replies_total", "openai"]) == (1, 1)
    assert found["pop_llm_fallbacks_total", "gpt", "openai", "server"] == 1
    assert found["pop_llm_budget_reached_total", "job", "spent"] == 1
    assert found["pop_llm_limit", "tokens_per_minute", "openai"] == float("inf")
    assert (found["pop_rollout_mode", "shadow"], found["pop_rollout_mode", "production"]) == (1, 0)
    assert found["pop_build_info", __version__] == 1


def test_gauges_are_asked_for_at_the_scrape(metrics: Metrics) -> None:
    """All states of jobs are there, job actors are one, and a later source replaces an earlier."""
    found = samples(metrics)
    assert (found["pop_jobs", "running"], found["pop_jobs", "error"]) == (2, 0)
    assert found["pop_pending_seeds",] == 3
    assert (found["pop_actor_mailbox_messages", "job"], found["pop_actor_mailbox_messages", "gateway"]) == (5, 2)
    assert (found["pop_actor_mailbox_age_seconds", "job"], found["pop_actor_mailbox_age_seconds", "gateway"]) == (
        1.5,
        0.5,
    )
    assert found["pop_actor_mailbox_dropped_total", "job"] == 3
    assert found["pop_actor_mailbox_refused_total", "gateway"] == 7
    assert (found["pop_actor_up", "gateway"], found["pop_actor_up", "watcher"]) == (1, 0)
    metrics.sample(lambda: {**gauges(), "pending_seeds": 8})
    assert samples(metrics)["pop_pending_seeds",] == 8


def test_no_label_ever_holds_a_job_id(metrics: Metrics) -> None:
    """Neither directly nor as part of an actor's name."""
    assert b"secret-job" not in metrics.render()


def test_levels_never_go_below_zero() -> None:
    """A gateway that was restarted may end calls nobody saw begin."""
    metrics = Metrics()
    metrics.on_observation(o.CallEnded("j", "openai", "gpt", "ok", 1.0))
    metrics.on_observation(o.CallAdmitted("openai", 0.1, granted=False))
    found = samples(metrics)
    assert (found["pop_llm_inflight", "openai"], found["pop_llm_waiting", "openai"]) == (0, 0)


def test_names_users_choose_are_bounded() -> None:
    """However many models are asked for, the registry stops growing."""
    metrics = Metrics()
    for number in range(MOST_NAMES + 50):
        metrics.on_observation(o.CallEnded("j", "openai", f"model-{number}", "ok", 1.0))
    assert samples(metrics)["pop_llm_requests_total", OTHER, "ok", "openai"] == 50
    known = BoundedNames(1)
    assert [known("a"), known("b"), known("a")] == ["a", OTHER, "a"]


def test_a_price_nobody_knows_is_counted_and_costs_nothing_known(metrics: Metrics) -> None:
    """A dollar figure that lacks calls says so; a call that used nothing lacks nothing."""
    found = samples(metrics)
    assert found["pop_llm_unknown_price_total", "llama", "own"] == 1
    assert ("pop_llm_cost_dollars_total", "llama", "own") not in found
    metrics.on_observation(o.CallEnded("j", "own", "llama", "bad_request", 0.1))
    assert samples(metrics)["pop_llm_unknown_price_total", "llama", "own"] == 1
