"""The gateway on its own, for programs without popd: every provider, limit, fallback and budget, and the journal.

    from pop_actors.gateway import EmbeddedGateway

    with EmbeddedGateway("my-calls") as gateway:
        print(gateway.session("report-7").chat("Say hello.").content)

One process at a time uses a folder. It never touches the folders of a popd.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from pop_actors.config import GatewaySettings, PriceSettings, ProviderSettings, load, read_keys
from pop_actors.core.api_keys import ApiKey, ProviderKeys
from pop_actors.core.ids import is_job_id
from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.messages import Chat, Withdraw
from pop_actors.core.observations import Feed, Listener
from pop_actors.errors import CallFailed
from pop_actors.runner.clockwork import Clockwork, Deadline
from pop_actors.runner.llm import Llm
from pop_actors.runner.llm_call import Caller, Purse
from pop_actors.runner.llm_choice import Choice
from pop_actors.runner.room import Room
from pop_actors.storage import disk
from pop_actors.storage.layout import Workspace
from pop_actors.storage.workspace_lock import WorkspaceLock
from pop_actors.system.gateway import Gateway
from pop_actors.system.gateway.loop import LoopThread

__all__ = ["CallFailed", "EmbeddedGateway", "GatewaySettings", "PriceSettings", "ProviderSettings"]

FOREVER_SECONDS = 31_536_000.0
SECONDS = 30.0


class EmbeddedGateway:
    """A gateway in a thread of this process. Thread-safe; use it as a context, or `close` it.

    Everything it keeps lies in `folder`: a journal per session in `current/{session}/llm-calls.jsonl`, what was spent
    in `state/spend/`.
    """

    def __init__(
        self,
        folder: Path | str,
        settings: GatewaySettings | None = None,
        keys: Mapping[str, str | Sequence[str]] | None = None,
        *listeners: Listener,
    ) -> None:
        """Without `settings`, those of `pop.toml` in the folder and of the environment hold. Without `keys` (by
        provider, one or several) they are read where the settings say. Both as popd does it. `listeners` hear what
        happens (`core/observations.py`).

        SettingsError; RootTaken where another process uses the folder.
        """
        place = Path(folder).absolute()
        self._settings = load(place, None).gateway if settings is None else settings
        self._keys = read_keys(self._settings, place) if keys is None else _named(keys)
        self._workspace = Workspace(place, place)
        self._feed = Feed(*listeners)
        self._clockwork = Clockwork()
        self._closing = threading.Event()
        disk.make_folder(self._workspace.state)
        with contextlib.ExitStack() as opened:
            opened.enter_context(WorkspaceLock(self._workspace))
            self._loop = LoopThread("gateway")
            opened.callback(self._loop.stop)
            self._gateway: Gateway = self._loop.submit(self._open()).result(SECONDS)
            opened.callback(self._clockwork.stop)
            self._opened = opened.pop_all()

    def session(
        self,
        name: str,
        *,
        budget_usd: float | None = None,
        priority: int = 0,
        fallback: tuple[str, ...] = (),
    ) -> Llm:
        """Calls as `ctx.llm` makes them: `chat(…)`, `achat(…)`, `openai.chat(…)` and so on.

        A session opened again begins anew at its journal's first reply: the same calls in the same order are replayed
        and not bought again, so a program that crashed is simply run again. `fallback`: `provider:model`, in order.
        """
        if not is_job_id(name):
            raise ValueError(f"{name!r} is no name of a session: letters, digits, _ and -, at most 128")
        disk.make_folder(self._workspace.job(name).path)
        caller = Caller(
            gateway=_Here(self),
            job_id=name,
            run_id="embedded",
            epoch=1,
            task="embedded",
            attempt=1,
            stage="session",
            round=0,
            deadline=Deadline(self._clockwork, FOREVER_SECONDS),
            request_timeout=self._settings.request_timeout_seconds,
            paid=[],
            levels=(Choice(fallback=fallback),),
            override=LlmOverride(),
            room=Room(self._closing),
            purse=Purse(priority=priority, budget_usd=budget_usd),
        )
        return Llm(caller)

    def view(self) -> list[dict[str, Any]]:
        """What `popctl gateway --json` shows."""
        found: list[dict[str, Any]] = self._run(self._gateway.view)
        return found

    def budgets(self) -> list[dict[str, Any]]:
        """The daily budgets: {scope, name, limitUsd, spentUsd, state, resetsAt, waiting}."""
        found: list[dict[str, Any]] = self._run(self._gateway.budgets)
        return found

    def set_limits(self, provider: str, **limits: float | None) -> dict[str, Any]:
        """Other limits of a provider, or of one of its models (`provider:model`), from now on. Refused bad_limit."""
        found: dict[str, Any] = self._run(lambda: self._gateway.set_limits(provider, **limits))
        return found

    def request(self, chat: Chat) -> Future[dict[str, Any]]:
        """One call as a job makes it."""
        answer: Future[dict[str, Any]] = Future()
        self._loop.call(partial(self._gateway.ask, chat, answer))
        return answer

    def withdraw(self, withdrawn: Withdraw) -> None:
        """End a call nobody waits for any more."""
        self._loop.call(partial(self._gateway.withdraw, withdrawn.job_id, withdrawn.ask))

    def close(self) -> None:
        """End every call, write what was paid, let go of the folder. A second call does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._opened:
            self._loop.submit(self._gateway.close()).result(SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, question: Callable[[], Any]) -> Any:
        async def ask() -> Any:
            return question()

        return self._loop.submit(ask()).result(SECONDS)

    async def _open(self) -> Gateway:
        return Gateway(self._settings, self._keys, self._workspace, self._feed, lambda _session, _event: None)

    def __repr__(self) -> str:
        return f"EmbeddedGateway({str(self._workspace.root)!r}{', closed' if self._closing.is_set() else ''})"


class _Here:
    """The gateway's address for calls made in this process."""

    address = "gateway"

    def __init__(self, gateway: EmbeddedGateway) -> None:
        self._gateway = gateway

    def tell(self, message: object) -> None:
        assert isinstance(message, Withdraw)
        with contextlib.suppress(RuntimeError):  # it is closed: nothing is under way
            self._gateway.withdraw(message)

    def request(self, message: object) -> Future[Any]:
        assert isinstance(message, Chat)
        return self._gateway.request(message)

    def ask(self, message: object, timeout: float) -> Any:
        return self.request(message).result(timeout)


def _named(keys: Mapping[str, str | Sequence[str]]) -> dict[str, ProviderKeys]:
    return {name: _several([given] if isinstance(given, str) else given) for name, given in keys.items()}


def _several(keys: Sequence[str]) -> ProviderKeys:
    names = ["given"] if len(keys) == 1 else [f"given {number}" for number in range(1, len(keys) + 1)]
    return ProviderKeys(tuple(ApiKey(name, SecretStr(key)) for name, key in zip(names, keys, strict=True)))
