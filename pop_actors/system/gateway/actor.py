"""The gateway's actor: a mailbox before a loop. It hands every message on and waits for nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.config import GatewaySettings
from pop_actors.core.api_keys import ProviderKeys
from pop_actors.core.messages import Chat, Withdraw
from pop_actors.core.observations import Feed
from pop_actors.errors import CallFailed, Refused
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.gateway import Gateway, OnPaid
from pop_actors.system.gateway.loop import LoopThread
from pop_actors.system.gateway.messages import BudgetView, GatewayView, JobGone, JobStopped, Probe, SetLimits
from pop_actors.system.gateway.prompt_log import PromptLog

START_SECONDS = 30.0
CLOSE_SECONDS = 30.0


class GatewayActor(Actor):
    """Takes Chat, SetLimits, Probe, GatewayView and BudgetView (asked), Withdraw, JobGone and JobStopped (told)."""

    mailbox_policy = "block"  # a call that waits at its job's socket costs nothing; how many may wait the gateway says

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Mapping[str, ProviderKeys],
        workspace: Workspace,
        feed: Feed,
        on_paid: OnPaid,
        prompts: PromptLog | None = None,
    ) -> None:
        super().__init__()
        self._parts = (settings, dict(keys), workspace, feed, on_paid)
        self._prompts = prompts
        self._loop: LoopThread | None = None
        self._gateway: Gateway | None = None

    def on_start(self) -> None:
        self._loop = LoopThread("gateway-loop")
        try:
            self._gateway = self._loop.submit(self._open()).result(START_SECONDS)
        except BaseException:
            self._loop.stop()
            raise

    def on_stop(self) -> None:
        """Calls under way end (their askers hear Unavailable, and ask again), what is paid is written."""
        if self._loop is None or self._gateway is None:
            return
        try:
            self._loop.submit(self._gateway.close()).result(CLOSE_SECONDS)
        finally:
            self._loop.stop()

    def receive(self, message: Any) -> object:
        assert self._loop is not None
        if isinstance(message, Chat):
            answer: Future[dict[str, Any]] = Future()
            self._loop.call(partial(self._running.ask, message, answer))
            return answer
        told = self._told(message)
        if told is not None:  # by the same way as the calls of the job, before it and after it
            self._loop.call(told)
            return None
        work = self._work(message)
        return super().receive(message) if work is None else self._loop.submit(work)

    def snapshot(self) -> dict[str, Any]:
        """JSON-able; read from other threads."""
        return {**super().snapshot(), "gateway": repr(self._gateway)}

    def _told(self, message: Any) -> Callable[[], object] | None:
        told: Callable[[], object] | None = None
        match message:
            case Withdraw(job_id, ask):
                told = partial(self._running.withdraw, job_id, ask)
            case JobGone(job_id):
                told = partial(self._running.job_gone, job_id)
            case JobStopped(job_id):
                told = partial(self._running.job_stopped, job_id)
        return told

    def _work(self, message: Any) -> Coroutine[Any, Any, Any] | None:
        work: Coroutine[Any, Any, Any] | None = None
        match message:
            case SetLimits():
                work = self._set_limits(message)
            case Probe():
                work = self._probe(message)
            case GatewayView():
                work = self._view()
            case BudgetView():
                work = self._budgets()
        return work

    async def _open(self) -> Gateway:
        return Gateway(*self._parts, prompts=self._prompts)

    async def _set_limits(self, message: SetLimits) -> dict[str, Any]:
        try:
            return self._running.set_limits(message.provider, **message.limits)
        except CallFailed as failure:
            raise Refused(failure.code, failure.message) from None

    async def _probe(self, message: Probe) -> list[dict[str, Any]]:
        try:
            return await self._running.probe(message.provider, message.seconds)
        except CallFailed as failure:
            raise Refused(failure.code, failure.message) from None

    async def _view(self) -> list[dict[str, Any]]:
        return self._running.view()

    async def _budgets(self) -> list[dict[str, Any]]:
        return self._running.budgets()

    @property
    def _running(self) -> Gateway:
        assert self._gateway is not None
        return self._gateway
