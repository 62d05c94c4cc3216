"""The API as an actor of the tree: starts and stops the server, and fails when the server does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.api.server import ApiServer
from pop_actors.errors import ActorError


@dataclass(frozen=True, slots=True)
class _ServerDied:
    reason: str


class Api(Actor):
    """Owns the server; a new incarnation makes a new one."""

    mailbox_policy = "refuse"  # requests come over HTTP, and nobody has a reason to wait for this actor

    def __init__(self, make_server: Callable[[Callable[[str], None]], ApiServer]) -> None:
        """`make_server(on_death)` makes a server that is not started yet."""
        super().__init__()
        self._make_server = make_server
        self._server: ApiServer | None = None

    def on_start(self) -> None:
        self._server = self._make_server(lambda reason: self.tell_self(_ServerDied(reason)))
        self._server.start()

    def on_stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def receive(self, message: object) -> object:
        if isinstance(message, _ServerDied):
            raise ActorError(f"the server ended: {message.reason}")
        return super().receive(message)

    def snapshot(self) -> dict[str, Any]:
        port = None if self._server is None else self._server.port
        return {**super().snapshot(), "port": port}
