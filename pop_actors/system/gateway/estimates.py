"""What a call may cost, guessed before it is made so that budgets can put it aside. Used by the gateway's loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pop_actors.core.chat import Usage
from pop_actors.core.token_guess import Tokens
from pop_actors.providers.prices import Prices


class Estimates:
    """`prices_of(provider)` makes the price list of a provider; None: it has none."""

    def __init__(self, prices_of: Callable[[str], Prices | None]) -> None:
        self._prices_of = prices_of
        self._lists: dict[str, Prices | None] = {}

    async def cost(self, provider: str, model: str, tokens: Tokens) -> float:
        """US dollars; 0 where the price is unknown. Loads what it takes the first time."""
        if provider not in self._lists:
            found = self._prices_of(provider)
            if found is not None:
                await asyncio.to_thread(found.load)
            self._lists[provider] = found
        prices = self._lists[provider]
        if prices is None:
            return 0.0
        return prices.cost(model, Usage(input_tokens=round(tokens.input), output_tokens=round(tokens.output))) or 0.0
