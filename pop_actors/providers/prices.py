"""What a call costs: the one place that knows genai-prices. A price nobody knows is None, never 0."""

from __future__ import annotations

import math

from pop_actors.core.chat import Usage


class Prices:
    """The prices of one vendor's models. Loading them costs 27 MB and 0.1 s, so they are loaded by the first call."""

    def __init__(self, vendor: str | None) -> None:
        self._vendor = vendor
        self._unknown: set[str] = set()

    def load(self) -> None:
        """Load the tables now; slow the first time."""
        if self._vendor is not None:
            import genai_prices  # noqa: F401  # 27 MB that a daemon which only idles or works offline must not carry

    def cost(self, model: str, usage: Usage) -> float | None:
        """US dollars, or None where the model's price is unknown."""
        if self._vendor is None or model in self._unknown:
            return None
        import genai_prices  # as in `load`

        counted = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
        )
        try:
            cost = float(genai_prices.calc_price(counted, model_ref=model, provider_id=self._vendor).total_price)
        except (LookupError, ValueError):  # no such model, or no price for this kind of token
            self._unknown.add(model)
            return None
        return cost if math.isfinite(cost) else None
