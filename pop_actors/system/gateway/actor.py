"""The gateway's actor: a mailbox before a loop. It hands every message on and waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from pydantic import SecretStr

from pop_actors.actors.actor import Actor
from pop_actors.config import GatewaySettings
from pop_actors.core.messages import Chat
from pop_actors.core.observations import Feed
from pop_actors.errors import CallFailed, Refused
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.gateway import Gateway, OnPaid
from pop_actors.system.gateway.loop import LoopThread
from pop_actors.system.gateway.messages import GatewayView, JobGone, SetLimits

START_SECONDS = 30.0
CLOSE_SECONDS = 30.0


class GatewayActor(Actor):
    """Takes Chat, SetLimits and GatewayView (asked) and JobGone (told)."""

    mailbox_policy = "block"  # a call that waits at its job's socket costs nothing; how many may wait the gateway says

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Mapping[str, SecretStr],
        workspace: Workspace,
        feed: Feed,
        on_paid: OnPaid,
    ) -> None:
        super().__init__()
        self._parts = (settings, dict(keys), workspace, feed, on_paid)
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
        match message:
            case Chat():
                return self._submit(self._chat(message))
            case JobGone():
                return self._submit(self._job_gone(message.job_id))
            case SetLimits():
                return self._submit(self._set_limits(message))
            case GatewayView():
                return self._submit(self._view())
            case _:
                return super().receive(message)

    def snapshot(self) -> dict[str, Any]:
        """JSON-able; read from other threads."""
        return {**super().snapshot(), "gateway": repr(self._gateway)}

    def _submit(self, work: Any) -> Future[Any]:
        assert self._loop is not None
        return self._loop.submit(work)

    async def _open(self) -> Gateway:
        return Gateway(*self._parts)

    async def _chat(self, message: Chat) -> dict[str, Any]:
        return await self._running.chat(message)

    async def _job_gone(self, job_id: str) -> None:
        self._running.job_gone(job_id)

    async def _set_limits(self, message: SetLimits) -> dict[str, Any]:
        try:
            return self._running.set_limits(message.provider, **message.limits)
        except CallFailed as failure:
            raise Refused(failure.code, failure.message) from None

    async def _view(self) -> list[dict[str, Any]]:
        return self._running.view()

    @property
    def _running(self) -> Gateway:
        assert self._gateway is not None
        return self._gateway
