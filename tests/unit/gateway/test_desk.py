"""What a provider's desk remembers of models, whose names anybody may make up."""

from __future__ import annotations

import asyncio

from pop_actors.core.limits import Limits
from pop_actors.core.observations import Feed
from pop_actors.providers.offline import OfflineProvider
from pop_actors.system.gateway.desk import MOST_ACCOUNTS, Desk
from pop_actors.system.gateway.lane import WaitingRoom


async def used() -> tuple[Desk, set[str]]:
    """A desk that was asked for more models than it keeps, and those it has in the end."""
    desk = Desk("offline", "offline", Limits(), WaitingRoom(1, 1), OfflineProvider, Feed())
    desk.account("busy").in_flight = 1
    desk.account("awaited").waiting = 1
    desk.account("old")
    for number in range(MOST_ACCOUNTS):
        desk.account(f"made-up-{number}")
        desk.account("in use")
    return desk, {row["model"] for row in desk.view(None)}


def test_accounts_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    """A job that makes up names does not make the daemon grow."""
    _, models = asyncio.run(used())
    assert len(models) == MOST_ACCOUNTS
    assert "old" not in models
    assert {"in use", f"made-up-{MOST_ACCOUNTS - 1}"} <= models


def test_who_has_a_call_under_way_is_not_forgotten() -> None:
    """Its end is still to be counted."""
    desk, models = asyncio.run(used())
    assert {"busy", "awaited"} <= models
    assert desk.account("busy").in_flight == 1
