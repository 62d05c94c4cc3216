"""A gateway in its loop, a scripted provider on a socket, and jobs' directories: what the tests here stand on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pop_actors.config import GatewaySettings, ProviderSettings
from pop_actors.core.api_keys import ApiKey, ProviderKeys
from pop_actors.core.events import CallPaid
from pop_actors.core.messages import Chat
from pop_actors.core.observations import Feed, Observation
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.gateway import Gateway
from pop_actors.system.gateway.loop import LoopThread
from support.provider_server import ProviderServer

SECONDS = 40.0
KEY = "sk-very-secret-1234567890"


def chat_message(model: str, job: str = "job-1", **fields: Any) -> Chat:
    """A Chat; `text`, `provider` and other parts of the request may be given beside the message's own fields."""
    own = {name: fields.pop(name) for name in tuple(fields) if name in Chat.__dataclass_fields__}
    request = {
        "messages": [{"role": "user", "content": fields.pop("text", "hello")}],
        "provider": fields.pop("provider", "fake"),
        "model": model,
        **fields,
    }
    place = {"epoch": 1, "task": "research", "attempt": 1, "stage": "inference", "round": 0, "ordinal": 1}
    return Chat(**{"job_id": job, "run_id": "pl-1", "timeout": SECONDS, "request": request, **place, **own})


def eventually(condition: Callable[[], bool]) -> None:
    """Return once it holds; for what nobody signals."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


class World:
    """`seen`: every observation; `paid`: what was told to the status-writer."""

    def __init__(self, root: Path, server: ProviderServer, **settings: Any) -> None:
        self.server = server
        self.workspace = Workspace(root, root / "pipeline-data")
        self.seen: list[Observation] = []
        self.paid: list[tuple[str, CallPaid]] = []
        self._heard = threading.Condition()
        self._keys = settings.pop("keys", {"FAKE_API_KEY": KEY})  # by name
        self.now = settings.pop("now", None)  # seconds since the epoch, where a test sets the clock
        self.prompts = settings.pop("prompts", None)
        limits = settings.pop("limits", {})
        table = ProviderSettings(kind="openai", base_url=server.base_url, **limits)
        named = ProviderSettings(base_url=server.base_url)
        providers = {"fake": table, "openai": named, "deepseek": named, **settings.pop("providers", {})}
        self.settings = GatewaySettings(default_provider="fake", providers=providers, **settings)
        self.loop = LoopThread("gateway-under-test")
        self.gateway: Gateway = self.loop.submit(self._open()).result(SECONDS)

    async def _open(self) -> Gateway:
        found = ProviderKeys(tuple(ApiKey(name, SecretStr(key)) for name, key in self._keys.items()))
        keys = {"fake": found, "openai": found}
        feed = Feed(self._hear)
        return Gateway(
            self.settings, keys, self.workspace, feed, lambda job, event: self.paid.append((job, event)),
            luck=lambda: 0.0, clock=lambda: time.time() if self.now is None else self.now, prompts=self.prompts,
        )  # fmt: skip

    def _hear(self, observation: Observation) -> None:
        with self._heard:
            self.seen.append(observation)
            self._heard.notify_all()

    def begin(self, model: str = "ok", job: str = "job-1", **fields: Any) -> Future[dict[str, Any]]:
        """Ask; the job's directory is made where it is missing."""
        self.workspace.job(job).path.mkdir(parents=True, exist_ok=True)
        return self.loop.submit(self.gateway.chat(chat_message(model, job, **fields)))

    def ask(self, model: str = "ok", job: str = "job-1", **fields: Any) -> dict[str, Any]:
        """Ask and wait for the reply's document."""
        return self.begin(model, job, **fields).result(SECONDS)

    def job_gone(self, job: str) -> None:
        async def tell() -> None:
            self.gateway.job_gone(job)

        self.loop.submit(tell()).result(SECONDS)

    def job_stopped(self, job: str) -> None:
        async def tell() -> None:
            self.gateway.job_stopped(job)

        self.loop.submit(tell()).result(SECONDS)

    def withdraw(self, ask: str, job: str = "job-1") -> None:
        async def tell() -> None:
            self.gateway.withdraw(job, ask)

        self.loop.submit(tell()).result(SECONDS)

    def set_limits(self, provider: str, **limits: int | None) -> dict[str, Any]:
        async def change() -> dict[str, Any]:
            return self.gateway.set_limits(provider, **limits)

        return self.loop.submit(change()).result(SECONDS)

    def view(self) -> dict[tuple[str, str | None], dict[str, Any]]:
        async def look() -> list[dict[str, Any]]:
            return self.gateway.view()

        return {(row["provider"], row["model"]): row for row in self.loop.submit(look()).result(SECONDS)}

    def wait_until_seen(self, kind: type, count: int = 1) -> None:
        """Return once so many observations of that kind were published."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.of_kind(kind)) >= count, SECONDS), self.seen

    def of_kind(self, kind: type) -> list[Any]:
        return [observation for observation in self.seen if isinstance(observation, kind)]

    def journal(self, job: str = "job-1") -> list[dict[str, Any]]:
        """The records of a job's journal."""
        return [json.loads(line) for line in self.workspace.job(job).calls.read_text().splitlines()]

    def types(self, job: str = "job-1") -> list[str]:
        return [record["type"] for record in self.journal(job)]

    def restart(self) -> None:
        """Another gateway on the same workspace, as after a crash of the old one."""
        self.loop.submit(self.gateway.close()).result(SECONDS)
        self.gateway = self.loop.submit(self._open()).result(SECONDS)

    def close(self) -> None:
        self.loop.submit(self.gateway.close()).result(SECONDS)
        self.loop.stop()


@contextmanager
def world(root: Path, **settings: Any) -> Iterator[World]:
    """Settings are the gateway's; `limits` are the provider's; `keys` by their names."""
    with ProviderServer() as server:
        made = World(root, server, **settings)
        try:
            yield made
        finally:
            made.close()
