"""Many calls of many jobs before a provider that changes its mood, and what its log and the journals say of them.

The provider runs in a process of its own, so that what it counts is counted by nobody else.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_world import Provider, provider_process

from pop_actors.config import GatewaySettings, ProviderSettings
from pop_actors.core.messages import Chat
from pop_actors.core.observations import Observation
from pop_actors.errors import CallFailed
from pop_actors.gateway import EmbeddedGateway
from support.daemon import wait_until

SECONDS = 150.0
HEALTHY = "slow-200ms"
MODEL = "m"


@dataclass
class Asked:
    """One call. `ended`: monotonic seconds."""

    job: str
    ordinal: int
    answer: Future[dict[str, Any]]
    ended: float = 0.0

    @property
    def text(self) -> str:
        """Its prompt, by which the provider knows it."""
        return f"{self.job} {self.ordinal}"

    @property
    def failure(self) -> CallFailed | None:
        error = self.answer.exception(SECONDS)
        assert error is None or isinstance(error, CallFailed), error
        return error


@dataclass
class Storm:
    """`seen`: what the gateway has observed."""

    gateway: EmbeddedGateway
    folder: Path
    port: int
    log: Path
    asked: list[Asked] = field(default_factory=list)
    seen: list[Observation] = field(default_factory=list)

    def begin(
        self, jobs: int, calls: int, *, first: int = 1, seconds: float = SECONDS, prefix: str = "job"
    ) -> list[Asked]:
        """So many calls of each of so many jobs, all at once; the jobs take turns in asking."""
        begun = []
        for number in range(jobs):
            (self.folder / "current" / f"{prefix}-{number}").mkdir(parents=True, exist_ok=True)
        for ordinal in range(first, first + calls):
            for number in range(jobs):
                job = f"{prefix}-{number}"
                asked = Asked(job, ordinal, self.gateway.request(_chat(job, ordinal, seconds)))
                asked.answer.add_done_callback(lambda _, asked=asked: setattr(asked, "ended", time.monotonic()))
                begun.append(asked)
        self.asked += begun
        return begun

    def mood(self, mood: str | None) -> float:
        """What the provider does from now on; when that was, in seconds since the epoch."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/mood", json.dumps({"mood": mood}))
        assert connection.getresponse().status == 200
        connection.close()
        return time.time()

    def arrived(self) -> list[dict[str, Any]]:
        """A line for each request that came to the provider, in order."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").split("\n")[:-1]]

    def wait_for_arrivals(self, count: int, answer: str | None = None) -> None:
        """Return once so many requests have come, or so many that are answered so."""
        wait_until(
            lambda: sum(answer in {None, line["answer"]} for line in self.arrived()) >= count,
            60,
            f"{count} requests to be answered with {answer}",
        )

    def wait_for_replies(self, count: int) -> None:
        wait_until(lambda: sum(asked.answer.done() for asked in self.asked) >= count, SECONDS, f"{count} replies")

    def wait_for_observation(self, kind: type) -> None:
        wait_until(lambda: any(isinstance(seen, kind) for seen in tuple(self.seen)), 60, kind.__name__)

    def paused(self) -> float:
        """Seconds for which the model is to be left alone."""
        return max((row["pausedSeconds"] for row in self.gateway.view() if row["model"] == MODEL), default=0.0)

    def failures(self) -> list[CallFailed]:
        """Of all that were asked; returns when they have ended."""
        return [asked.failure for asked in self.asked if asked.failure is not None]

    # The books

    def check_books(self) -> None:
        """Nothing left unwritten, nothing answered was lost, and nothing was bought twice."""
        self.failures()
        requests: Counter[str] = Counter()
        bought: Counter[str] = Counter()
        for line in self.arrived():
            requests[line["prompt"]] += 1
            bought[line["prompt"]] += line["answer"] == "ok"
        records = self._records()
        for asked in self.asked:
            kinds = Counter(record["type"] for record in records[asked.text])
            assert requests[asked.text] <= kinds["sent"], f"{asked.text}: a request left that is not in its journal"
            if asked.failure is None:
                assert (bought[asked.text], kinds["paid"]) == (1, 1), f"{asked.text}: {bought[asked.text]} {kinds}"
                paid = next(record for record in records[asked.text] if record["type"] == "paid")
                assert paid["reply"] == asked.answer.result()
            else:
                assert (bought[asked.text], kinds["paid"]) == (0, 0), f"{asked.text}: {bought[asked.text]} {kinds}"
        assert requests.keys() <= {asked.text for asked in self.asked}

    def check_places(self, most: int) -> None:
        """Never more at once, as the provider counts."""
        assert max(line["atOnce"] for line in self.arrived()) <= most

    def check_fairness(self, begun: float) -> None:
        """The slowest job took at most twice as long as the fastest, at equal work."""
        ends: defaultdict[str, float] = defaultdict(float)
        for asked in self.asked:
            ends[asked.job] = max(ends[asked.job], asked.ended - begun)
        assert max(ends.values()) <= 2 * min(ends.values()), ends

    def _records(self) -> defaultdict[str, list[dict[str, Any]]]:
        """The journals' records by prompt."""
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for journal in (self.folder / "current").glob("*/llm-calls.jsonl"):
            for line in journal.read_text(encoding="utf-8").split("\n")[:-1]:
                record = json.loads(line)
                found[f"{journal.parent.name} {record['ordinal']}"].append(record)
        return found


@contextmanager
def storm(folder: Path, **settings: Any) -> Iterator[Storm]:
    """A gateway and its provider; `settings` as `gateway_for` takes them."""
    place = folder / "provider"
    place.mkdir()
    with provider_process(place) as provider, gateway_for(folder / "gateway", provider, **settings) as made:
        yield made


@contextmanager
def gateway_for(
    folder: Path, provider: Provider, base_url: str | None = None, *, idle_seconds: float = 60.0, **limits: Any
) -> Iterator[Storm]:
    """`base_url`: where the gateway is to look for the provider. `limits`, and more settings of the provider's."""
    table = ProviderSettings(kind="openai", base_url=base_url or provider.base_url, **limits)
    settings = GatewaySettings(
        default_provider="fake", providers={"fake": table}, max_retries=30, idle_timeout_seconds=idle_seconds
    )
    seen: list[Observation] = []
    with EmbeddedGateway(folder, settings, {}, seen.append) as gateway:
        made = Storm(gateway, folder, port_of(provider), provider.log, seen=seen)
        made.mood(HEALTHY)
        yield made


def port_of(provider: Provider) -> int:
    return int(provider.base_url.rpartition(":")[2].partition("/")[0])


def _chat(job: str, ordinal: int, seconds: float) -> Chat:
    request = {"messages": [{"role": "user", "content": f"{job} {ordinal}"}], "provider": "fake", "model": MODEL}
    return Chat(job, "pl-1", 1, "research", 1, "inference", 0, ordinal, request, seconds)
