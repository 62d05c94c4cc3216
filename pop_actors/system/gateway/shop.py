"""What every purchase of the gateway works with, handed over as one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pop_actors.core.events import CallPaid
from pop_actors.core.ids import timestamp
from pop_actors.core.observations import Feed
from pop_actors.system.gateway.desk import Desk
from pop_actors.system.gateway.estimates import Estimates
from pop_actors.system.gateway.journal import Journals
from pop_actors.system.gateway.lane import WaitingRoom
from pop_actors.system.gateway.spending import Spending

if TYPE_CHECKING:
    from pop_actors.system.gateway.prompt_log import PromptLog
    from pop_actors.system.gateway.response_cache import ResponseCache


@dataclass(frozen=True, slots=True)
class Shop:
    """`desk(provider)` raises CallFailed unknown_provider. `luck` is in [0, 1). `cache` and `prompts` only where they
    are wanted."""

    loop: asyncio.AbstractEventLoop
    journals: Journals
    room: WaitingRoom
    spending: Spending
    estimates: Estimates
    feed: Feed
    desk: Callable[[str], Desk]
    on_paid: Callable[[str, CallPaid], None]
    max_retries: int
    max_ambiguous_retries: int
    clock: Callable[[], float]
    luck: Callable[[], float]
    cache: ResponseCache | None = None
    prompts: PromptLog | None = None

    def now(self) -> str:
        return timestamp(self.clock())
