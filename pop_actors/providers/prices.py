"""What a call costs: settings first, then genai-prices, which only this module knows. A price nobody knows is None."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol

from pop_actors.core.chat import Usage

ANY_MODEL = "*"
MILLION = 1_000_000
VALID_SECONDS = 60.0  # some vendors' prices change with the hour
MOST_MODELS = 1000


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens of each kind, and per request. What is left out costs what the whole costs."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    request: float = 0.0

    def cost(self, usage: Usage) -> float:
        """US dollars. A part that is said to be larger than its whole counts as the whole."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - cached)
        reasoning = min(usage.reasoning_tokens, usage.output_tokens)
        tokens = (
            (usage.input_tokens - cached - written) * self.input
            + cached * (self.input if self.cached_input is None else self.cached_input)
            + written * (self.input if self.cache_write is None else self.cache_write)
            + (usage.output_tokens - reasoning) * self.output
            + reasoning * (self.output if self.reasoning is None else self.reasoning)
        )
        return tokens / MILLION + self.request


class OwnPrice(Protocol):
    """What `[gateway.prices."PROVIDER:MODEL"]` says."""

    @property
    def input(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def cached_input(self) -> float | None: ...
    @property
    def cache_write(self) -> float | None: ...


def own_rates(provider: str, prices: Mapping[str, OwnPrice]) -> dict[str, Rates]:
    """By model: what settings say of that provider. Names are `provider:model`."""
    named = ((name.partition(":"), price) for name, price in prices.items())
    return {
        model: Rates(price.input, price.output, price.cached_input, price.cache_write)
        for (owner, _, model), price in named
        if owner == provider
    }


class Prices:
    """The prices of one provider's models. genai-prices costs 27 MB and 0.1 s, and is loaded when first needed.

    `vendor` is its id there, None: it does not know the provider. `own`: what settings say, by model, or for `*`.
    """

    def __init__(
        self,
        vendor: str | None,
        own: Mapping[str, Rates] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vendor = vendor
        self._own = own
        self._clock = clock
        self._known: dict[str, tuple[Rates | None, float]] = {}  # None: it takes the whole reckoning each time
        self._unknown: set[str] = set()

    def load(self) -> None:
        """Load the tables now; slow the first time."""
        if self._vendor is not None:
            import genai_prices  # noqa: F401  # 27 MB that a daemon which only idles or works offline must not carry

    def own_cost(self, model: str, usage: Usage) -> float | None:
        """US dollars by the settings alone; None where they do not name the model."""
        rates = self._own.get(model) or self._own.get(ANY_MODEL)
        return None if rates is None else rates.cost(usage)

    def cost(self, model: str, usage: Usage) -> float | None:
        """US dollars, or None where the model's price is unknown."""
        own = self.own_cost(model, usage)
        if own is not None or self._vendor is None or model in self._unknown:
            return own
        try:
            rates = self._rates(model, self._vendor)
            cost = _reckon(model, self._vendor, usage) if rates is None else rates.cost(usage)
        except (LookupError, ValueError):  # no such model, or no price for this kind of token
            self._unknown = {model} if len(self._unknown) >= MOST_MODELS else self._unknown | {model}
            return None
        return cost if math.isfinite(cost) else None

    def _rates(self, model: str, vendor: str) -> Rates | None:
        """The model's rates at this time of day; None where they depend on the length of the prompt."""
        known = self._known.get(model)
        now = self._clock()
        if known is None or known[1] <= now:
            if len(self._known) >= MOST_MODELS:
                self._known.clear()
            known = self._known[model] = (_rates_now(model, vendor), now + VALID_SECONDS)
        return known[0]


def _rates_now(model: str, vendor: str) -> Rates | None:
    priced = _calculation(model, vendor, Usage())
    if not all(isinstance(price, Decimal) for price in vars(priced.model_price).values() if price is not None):
        return None
    request = float(priced.total_price)

    def rate(**million: int) -> float:
        return _reckon(model, vendor, Usage(**million)) - request

    return Rates(
        input=rate(input_tokens=MILLION),
        output=rate(output_tokens=MILLION),
        cached_input=rate(input_tokens=MILLION, cached_tokens=MILLION),
        cache_write=rate(input_tokens=MILLION, cache_write_tokens=MILLION),
        reasoning=rate(output_tokens=MILLION, reasoning_tokens=MILLION),
        request=request,
    )


def _reckon(model: str, vendor: str, usage: Usage) -> float:
    return float(_calculation(model, vendor, usage).total_price)


def _calculation(model: str, vendor: str, usage: Usage) -> Any:
    """genai-prices' own reckoning. LookupError for a model it does not know."""
    import genai_prices  # as in `load`

    cached = min(usage.cached_tokens, usage.input_tokens)
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=cached,
        cache_write_tokens=min(usage.cache_write_tokens, usage.input_tokens - cached),
        output_reasoning_tokens=min(usage.reasoning_tokens, usage.output_tokens),
    )
    return genai_prices.calc_price(counted, model_ref=model, provider_id=vendor)
