"""The commands a supervisor takes, as methods: of the supervisor itself, and of a ref to one by its address.

Each returns a future at once. `.result(seconds)` waits for the answer, or raises `Refused`, whose `code` says why not.
Not to be waited for in the supervisor's own thread, nor in that of a child it is to stop.
"""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import ChildSpec
from pop_actors.actors.registry import Registry


class Commands:
    """What a supervisor can be told to do; the messages' docstrings say what is answered and what refused."""

    @abstractmethod
    def request(self, message: object) -> Future[Any]:
        """Send the command."""

    def start_child(self, spec: ChildSpec) -> Future[Any]:
        """Add a child and start it. Answer: its epoch, once it has started. See `StartChild`."""
        return self.request(m.StartChild(spec))

    def terminate_child(self, child_id: str, message: object | None = None) -> Future[Any]:
        """Stop a child; its spec stays. Answer: None, once it is gone. See `TerminateChild`."""
        return self.request(m.TerminateChild(child_id, message))

    def delete_child(self, child_id: str) -> Future[Any]:
        """Forget a stopped child's spec. See `DeleteChild`."""
        return self.request(m.DeleteChild(child_id))

    def restart_child(self, child_id: str, *, force: bool = False) -> Future[Any]:
        """Start a stopped child; with `force` one that runs. Answer: its epoch. See `RestartChild`."""
        return self.request(m.RestartChild(child_id, force))

    def which_children(self) -> Future[Any]:
        """Answer: `[{id, kind, restart, state, epoch, restarts}]` in start order. See `WhichChildren`."""
        return self.request(m.WhichChildren())

    def count_children(self) -> Future[Any]:
        """Answer: `{specs, active, supervisors, workers}`. See `CountChildren`."""
        return self.request(m.CountChildren())

    def get_child_spec(self, child_id: str) -> Future[Any]:
        """Answer: its `ChildSpec`. See `GetChildSpec`."""
        return self.request(m.GetChildSpec(child_id))


@dataclass(frozen=True, slots=True)
class SupervisorRef(Commands):
    """The supervisor at an address, whichever incarnation of it is there at each call."""

    registry: Registry
    address: str

    def request(self, message: object) -> Future[Any]:
        return self.registry.ref(self.address).request(message)
