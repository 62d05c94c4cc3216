"""What each of the daemon's actors does when its mailbox is full is decided, not left to a default."""

from __future__ import annotations

import pytest

from pop_actors.actors import Actor
from pop_actors.api.actor import Api
from pop_actors.system.gateway import GatewayActor
from pop_actors.system.jobs import Jobs
from pop_actors.system.scheduler import Scheduler
from pop_actors.system.status_writer import StatusWriter
from pop_actors.system.watcher import Watcher

POLICIES: dict[type[Actor], str] = {
    StatusWriter: "block",
    GatewayActor: "block",
    Scheduler: "block",
    Jobs: "block",
    Watcher: "drop_oldest",
    Api: "refuse",
}


@pytest.mark.parametrize("actor", POLICIES, ids=lambda actor: actor.__name__)
def test_every_system_actor_states_its_policy(actor: type[Actor]) -> None:
    """Where its class is, with the reason beside it; only the watcher may lose anything, and says what."""
    assert vars(actor)["mailbox_policy"] == POLICIES[actor]
    assert bool(actor.may_be_lost) == (actor is Watcher)
