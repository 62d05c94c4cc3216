"""What a call costs: by the settings, by the tables, or not known."""

from __future__ import annotations

import itertools

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import Usage
from pop_actors.providers.prices import Prices, Rates

MODELS = [
    ("openai", "gpt-5-nano"),
    ("openai", "gpt-6-sol"),  # dearer beyond a length of prompt
    ("anthropic", "claude-sonnet-5"),
    ("google", "gemini-3.8-flash"),  # has a price from a later date on
    ("deepseek", "deepseek-v4-pro"),  # has other prices at other hours
    ("moonshotai", "kimi-k3"),
    ("zai", "glm-5.3"),
]
tokens = st.integers(0, 400_000)


@pytest.mark.parametrize(("vendor", "model"), MODELS)
@given(fresh=tokens, cached=tokens, written=tokens, output=tokens, reasoning=tokens)
def test_the_memory_of_rates_reckons_as_the_tables_do(
    vendor: str, model: str, fresh: int, cached: int, written: int, output: int, reasoning: int
) -> None:
    """To the last digit that money has, for every kind of token and every model, tiers and hours included."""
    usage = Usage(
        input_tokens=fresh + cached + written,
        output_tokens=output + reasoning,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=cached,
        cache_write_tokens=written,
    )
    expected = float(genai_prices.calc_price(counted, model_ref=model, provider_id=vendor).total_price)
    assert ALWAYS_FRESH[vendor].cost(model, usage) == pytest.approx(expected, rel=1e-9, abs=1e-12)


hours = itertools.count(step=3600)  # the rates of a moment ago may be those of another hour
ALWAYS_FRESH = {vendor: Prices(vendor, clock=lambda: float(next(hours))) for vendor, _ in MODELS}


def test_reads_and_writes_of_a_cache_have_their_own_price() -> None:
    """A read is cheaper than fresh input, a write dearer, and both are part of the input."""
    prices = Prices("anthropic")
    plain = prices.cost("claude-sonnet-5", Usage(input_tokens=1000, output_tokens=100))
    read = prices.cost("claude-sonnet-5", Usage(input_tokens=1000, output_tokens=100, cached_tokens=1000))
    written = prices.cost("claude-sonnet-5", Usage(input_tokens=1000, output_tokens=100, cache_write_tokens=1000))
    assert plain is not None
    assert read is not None
    assert written is not None
    assert read < plain < written


@pytest.mark.parametrize(("vendor", "model"), [("openai", "nobody-sells-this"), ("no-such-vendor", "x"), (None, "x")])
def test_an_unknown_price_is_none_and_stays_so(vendor: str | None, model: str) -> None:
    """Never 0; asked again, it is not looked up again."""
    prices = Prices(vendor)
    assert [prices.cost(model, Usage(input_tokens=5)) for _ in range(2)] == [None, None]


def test_what_the_settings_say_goes_before_the_tables() -> None:
    """Dollars per million tokens; what is left out of them costs what fresh input costs."""
    prices = Prices("openai", {"gpt-5-nano": Rates(input=2.0, output=8.0, cached_input=0.5)})
    usage = Usage(input_tokens=1_000_000, output_tokens=500_000, cached_tokens=400_000, cache_write_tokens=100_000)
    assert prices.cost("gpt-5-nano", usage) == pytest.approx(0.5 * 2.0 + 0.4 * 0.5 + 0.1 * 2.0 + 0.5 * 8.0)
    assert prices.cost("gpt-5-mini", usage) is not None
    assert prices.own_cost("gpt-5-mini", usage) is None


def test_a_star_is_the_price_of_every_model_not_named() -> None:
    """A server of one's own costs nothing, whatever it serves: that is known, and not the same as unknown."""
    prices = Prices(None, {"*": Rates(0.0, 0.0), "big": Rates(1.0, 1.0)})
    assert prices.cost("anything", Usage(input_tokens=1000)) == 0.0
    assert prices.cost("big", Usage(input_tokens=1_000_000)) == 1.0


def test_parts_larger_than_the_whole_cost_what_the_whole_costs() -> None:
    """A provider that counts wrongly is not paid a negative amount, nor more than its whole."""
    usage = Usage(input_tokens=10, output_tokens=10, cached_tokens=99, cache_write_tokens=99, reasoning_tokens=99)
    for prices in (Prices("anthropic"), Prices(None, {"claude-sonnet-5": Rates(3.0, 15.0, cached_input=0.0)})):
        cost = prices.cost("claude-sonnet-5", usage)
        assert cost is not None
        assert 0 < cost < 0.001


def test_rates_are_asked_for_anew_after_a_while() -> None:
    """Prices change with the hour: what was remembered does not outlive its time."""
    now = [0.0]
    prices = Prices("deepseek", clock=lambda: now[0])
    usage = Usage(input_tokens=1000, output_tokens=1000)
    first = prices.cost("deepseek-v4-pro", usage)
    remembered = prices._known["deepseek-v4-pro"]
    prices.cost("deepseek-v4-pro", usage)
    assert prices._known["deepseek-v4-pro"] is remembered
    now[0] = 61.0
    assert first is not None
    assert prices.cost("deepseek-v4-pro", usage) is not None
    assert prices._known["deepseek-v4-pro"] is not remembered
