"""The metrics of the service (prefix `pop_`), kept by listening to the feed. OpenTelemetry's names stand beside them.

Labels are bounded: names that users choose (pipelines, tasks, models) beyond the first few hundred count as
`other`, and a job id is never one. Nothing here is called by the logic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pop_actors import __version__
from pop_actors.core import events as e
from pop_actors.core import observations as o
from pop_actors.core.states import JOB_STATES
from pop_actors.telemetry.gen_ai_metrics import GenAiMetrics
from pop_actors.telemetry.labelled import Labelled

MOST_NAMES = 300
OTHER = "other"
JOB_ACTORS = "job"
ROLLOUT_MODES = ("production", "pilot", "shadow")

_MINUTES = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800)
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_MILLISECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

Sample = Callable[[], Mapping[str, Any]]


class BoundedNames:
    """Hands through the first so many different names, then says `other`."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


class Metrics:
    """Every metric of the service in one registry. `on_observation` listens to the feed, from any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves this one untyped
        self.registry = registry or CollectorRegistry()
        self._pipelines, self._tasks, self._models = BoundedNames(), BoundedNames(), BoundedNames()
        self._levels = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._inflight: dict[str, int] = {}
        self._sampled: _Sampled | None = None
        self._make_job_metrics()
        self._make_actor_metrics()
        self._make_call_metrics()
        self._gen_ai = GenAiMetrics(self.registry)
        self._hearers = self._hearing()
        build = Gauge("pop_build_info", "The running version; always 1.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def sample(self, gauges: Sample) -> None:
        """Ask `gauges()` at every scrape for {jobs, pending_seeds, mailboxes, up}; a later call replaces an earlier."""
        if self._sampled is not None:
            self.registry.unregister(self._sampled)
        self._sampled = _Sampled(gauges)
        self.registry.register(self._sampled)

    def render(self) -> bytes:
        """All of it in Prometheus' text format, version 0.0.4."""
        return generate_latest(self.registry)

    def on_observation(self, observation: o.Observation) -> None:
        """The feed's listener."""
        hear = self._hearers.get(type(observation))
        if hear is not None:
            hear(observation)

    # What there is -------------------------------------------------------------------------------------------------

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"pop_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"pop_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"pop_{name}", help_text, labels, registry=self.registry, buckets=tuple(buckets))

    def _make_job_metrics(self) -> None:
        self._jobs = self._counter("jobs_total", "Runs that ended.", "pipeline", "outcome")
        self._over_limit = self._counter("jobs_over_limit_total", "Jobs ended for using too much.", "resource")
        self._job_seconds = self._histogram("job_duration_seconds", "From claim to end of a run.", _MINUTES, "pipeline")
        self._start_seconds = self._histogram("job_start_seconds", "From seed seen to first stage.", _SECONDS)
        self._task_seconds = self._histogram(
            "task_duration_seconds", "Time in a task, all attempts.", _MINUTES, "pipeline", "task", "outcome"
        )
        self._stage_seconds = self._histogram("stage_duration_seconds", "Time in a stage.", _SECONDS, "stage")
        self._refinements = self._counter("refinements_total", "Refinement rounds done.", "pipeline", "task")
        self._seeds = self._counter("seeds_total", "Files of the drop box, by what became of them.", "outcome")

    def _make_actor_metrics(self) -> None:
        self._restarts = self._counter("actor_restarts_total", "Actors started again.", "actor", "reason")
        self._writes = self._counter("status_writes_total", "Status files written.")
        self._write_seconds = self._histogram("status_write_seconds", "One flush of the status writer.", _MILLISECONDS)
        self._events = self._counter("status_events_total", "Events recorded by the status writer.")
        self._mode = self._gauge("rollout_mode", "1 for the mode the service is in.", "mode")

    def _make_call_metrics(self) -> None:
        ended = self._counter("llm_requests_total", "Calls that ended.", "provider", "model", "outcome")
        self._requests = Labelled(ended)
        about = "From permit to end of a call."
        self._request_seconds = Labelled(self._histogram("llm_request_seconds", about, _SECONDS, "provider", "model"))
        waited = self._histogram("llm_wait_seconds", "Queued for a permit.", _SECONDS, "provider")
        self._wait_seconds = Labelled(waited)
        self._inflight_now = Labelled(self._gauge("llm_inflight", "Calls with a permit.", "provider"))
        self._waiting_now = Labelled(self._gauge("llm_waiting", "Calls queued for a permit.", "provider"))
        self._tokens = Labelled(self._counter("llm_tokens_total", "Tokens by kind.", "provider", "model", "kind"))
        cost = self._counter("llm_cost_dollars_total", "What the calls cost.", "provider", "model")
        self._cost = Labelled(cost)
        about = "Calls whose price nobody knows."
        self._unknown_prices = Labelled(self._counter("llm_unknown_price_total", about, "provider", "model"))
        self._retries = self._counter("llm_retries_total", "Tries after the first.", "provider", "reason")
        self._replays = self._counter("llm_replays_total", "Replies served from the journal.", "provider")
        self._cached = self._counter("llm_cached_replies_total", "Replies served from the response cache.", "provider")
        self._fallbacks = self._counter(
            "llm_fallbacks_total", "Calls the next choice was asked for.", "provider", "model", "reason"
        )
        self._budgets = self._counter(
            "llm_budget_reached_total", "Budgets that came to a warning or to their end.", "scope", "state"
        )
        self._circuit = self._gauge("llm_circuit_open", "1 while the circuit is open.", "provider", "model")
        self._limit = self._gauge("llm_limit", "The provider's limit; +Inf: none.", "provider", "kind")

    # What is heard -------------------------------------------------------------------------------------------------

    def _hearing(self) -> dict[type, Callable[[Any], None]]:
        return {
            o.JobChanged: self._job_changed,
            o.JobFinished: self._job_finished,
            o.JobOverLimit: lambda seen: self._over_limit.labels(seen.resource).inc(),
            o.FirstStage: lambda seen: self._start_seconds.observe(seen.seconds),
            o.SeedClaimed: lambda _: self._seeds.labels("claimed").inc(),
            o.SeedTurnedDown: lambda _: self._seeds.labels("rejected").inc(),
            o.SeedIgnored: lambda _: self._seeds.labels("ignored").inc(),
            o.StatusWritten: self._status_written,
            o.ActorRestarted: self._actor_restarted,
            o.CallQueued: lambda seen: self._move(self._waiting, self._waiting_now, seen.provider, +1),
            o.CallAdmitted: self._call_admitted,
            o.CallRetried: self._call_retried,
            o.CallReplayed: lambda seen: (self._cached if seen.cached else self._replays).labels(seen.provider).inc(),
            o.CallFellBack: lambda seen: self._fallbacks.labels(
                seen.provider, self._models(seen.model), seen.reason
            ).inc(),
            o.BudgetReached: lambda seen: self._budgets.labels(
                seen.scope, "spent" if seen.share >= 1 else "warned"
            ).inc(),
            o.CallEnded: self._call_ended,
            o.ModelKnown: self._model_known,
            o.CircuitChanged: self._circuit_changed,
            o.LimitSet: self._limit_set,
            o.ModeChanged: self._mode_changed,
        }

    def _job_changed(self, seen: o.JobChanged) -> None:
        match seen.event:
            case e.StageFinished(stage=stage, ms=ms):
                self._stage_seconds.labels(stage).observe(ms / 1000)
            case e.TaskDone() as done:
                self._task_ended(seen, done, "done")
            case e.TaskFailed() as failed:
                self._task_ended(seen, failed, "error")

    def _task_ended(self, seen: o.JobChanged, event: e.TaskDone | e.TaskFailed, outcome: str) -> None:
        pipeline, task = self._pipelines(seen.document["pipeline"]), self._tasks(event.task)
        self._task_seconds.labels(pipeline, task, outcome).observe(event.execution_time / 1000)
        if event.refinements:
            self._refinements.labels(pipeline, task).inc(event.refinements)

    def _job_finished(self, seen: o.JobFinished) -> None:
        pipeline = self._pipelines(seen.pipeline)
        self._jobs.labels(pipeline, seen.outcome).inc()
        self._job_seconds.labels(pipeline).observe(seen.seconds)

    def _status_written(self, seen: o.StatusWritten) -> None:
        self._writes.inc(seen.jobs)
        self._events.inc(seen.events)
        self._write_seconds.observe(seen.seconds)

    def _actor_restarted(self, seen: o.ActorRestarted) -> None:
        self._restarts.labels(actor_label(seen.actor), seen.reason).inc()

    def _call_admitted(self, seen: o.CallAdmitted) -> None:
        self._move(self._waiting, self._waiting_now, seen.provider, -1)
        self._wait_seconds.labels(seen.provider).observe(seen.waited)
        if seen.granted:
            self._move(self._inflight, self._inflight_now, seen.provider, +1)

    def _call_retried(self, seen: o.CallRetried) -> None:
        """What may pay twice is counted apart, whatever went wrong."""
        self._retries.labels(seen.provider, "ambiguous" if seen.ambiguous else seen.reason).inc()

    def _call_ended(self, seen: o.CallEnded) -> None:
        self._move(self._inflight, self._inflight_now, seen.provider, -1)
        model = self._models(seen.model)
        self._requests.labels(seen.provider, model, seen.outcome).inc()
        self._request_seconds.labels(seen.provider, model).observe(seen.seconds)
        self._gen_ai.call_ended(seen, model, self._models(seen.wrote) if seen.wrote else "")
        kinds = {
            "input": seen.input_tokens,
            "output": seen.output_tokens,
            "cached": seen.cached_tokens,
            "reasoning": seen.reasoning_tokens,
            "cache_write": seen.cache_write_tokens,
        }
        for kind, tokens in kinds.items():
            if tokens:
                self._tokens.labels(seen.provider, model, kind).inc(tokens)
        if seen.cost_usd:
            self._cost.labels(seen.provider, model).inc(seen.cost_usd)
        if seen.cost_usd is None and (seen.input_tokens or seen.output_tokens):
            self._unknown_prices.labels(seen.provider, model).inc()

    def _model_known(self, seen: o.ModelKnown) -> None:
        """Its circuit is shown before anything has happened to it."""
        self._circuit.labels(seen.provider, self._models(seen.model))

    def _circuit_changed(self, seen: o.CircuitChanged) -> None:
        self._circuit.labels(seen.provider, self._models(seen.model)).set(seen.open)

    def _limit_set(self, seen: o.LimitSet) -> None:
        self._limit.labels(seen.provider, seen.kind).set(float("inf") if seen.value is None else seen.value)

    def _mode_changed(self, seen: o.ModeChanged) -> None:
        for mode in ROLLOUT_MODES:
            self._mode.labels(mode).set(mode == seen.rollout)

    def _move(self, levels: dict[str, int], gauge: Labelled[Gauge], provider: str, step: int) -> None:
        """A level never goes below 0: a gateway that was restarted may end calls nobody saw begin."""
        with self._levels:
            levels[provider] = max(0, levels.get(provider, 0) + step)
            gauge.labels(provider).set(levels[provider])


def actor_label(name: str) -> str:
    """An actor's name in the tree, or `job` for the actor of a job or of one of its tasks."""
    return JOB_ACTORS if name.startswith("jobs/") else name


class _Sampled:
    """Numbers asked for at a scrape instead of counted along the way."""

    def __init__(self, gauges: Sample) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        now = self._gauges()
        jobs = GaugeMetricFamily("pop_jobs", "Jobs in current/ by state.", labels=["state"])
        for state in JOB_STATES:
            jobs.add_metric([state], now.get("jobs", {}).get(state, 0))
        yield jobs
        yield GaugeMetricFamily("pop_pending_seeds", "Seeds in the drop box.", value=now.get("pending_seeds", 0))
        if "damaged_jobs" in now:
            about = "Jobs set aside at the start because their files are damaged."
            yield GaugeMetricFamily("pop_damaged_jobs", about, value=now["damaged_jobs"])
        if "intake_paused" in now:
            yield from _intake(now["intake_paused"], now.get("disk_free_bytes", 0))
        yield from _mailboxes(now)
        yield _family("pop_actor_up", "1 while the actor runs.", now.get("up", {}))


def _mailboxes(now: Mapping[str, Any]) -> Iterable[Metric]:
    depths = _by_label(now.get("mailboxes", {}), sum)
    yield _family("pop_actor_mailbox_messages", "Messages waiting for the actor.", depths)
    ages = _by_label(now.get("mailbox_ages", {}), max)
    yield _family("pop_actor_mailbox_age_seconds", "How long the oldest of them has waited.", ages)
    for what, said in (("dropped", "Messages lost, and nobody was told."), ("refused", "Messages not taken.")):
        family = CounterMetricFamily(f"pop_actor_mailbox_{what}", said, labels=["actor"])
        for actor, number in _by_label(now.get(f"mailbox_{what}", {}), sum).items():
            family.add_metric([actor], number)
        yield family


def _by_label(values: Mapping[str, float], together: Callable[[list[float]], float]) -> dict[str, float]:
    """The values of all actors with one label, put together."""
    found: dict[str, list[float]] = {}
    for actor, value in values.items():
        found.setdefault(actor_label(actor), []).append(value)
    return {label: together(several) for label, several in found.items()}


def _intake(paused: Mapping[str, bool], free_bytes: int) -> Iterable[Metric]:
    by_reason = GaugeMetricFamily("pop_intake_paused", "1 while no seed is claimed, by why.", labels=["reason"])
    for reason, is_so in paused.items():
        by_reason.add_metric([reason], float(is_so))
    yield by_reason
    full = float(paused.get("disk_full", False))
    yield GaugeMetricFamily("pop_disk_full", "1 while the disk refuses writes for want of room.", value=full)
    yield GaugeMetricFamily("pop_disk_free_bytes", "Free where the jobs are kept.", value=free_bytes)


def _family(name: str, help_text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=["actor"])
    for actor, value in values.items():
        if actor_label(actor) == actor:
            family.add_metric([actor], float(value))
    return family
