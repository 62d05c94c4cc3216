"""What providers say of their limits is read in every form, and only ever holds back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.learned_limits import LearnedLimits
from pop_actors.core.rate_news import Quota, QuotaKind, RateNews, read_rate_news
from pop_actors.core.token_guess import Tokens

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
ONE = Tokens(10.0, 0.0)


def test_openais_headers_are_read() -> None:
    """Requests and tokens, with durations of several units."""
    headers = {
        "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000", "x-ratelimit-reset-tokens": "1h6m0.5s",
    }  # fmt: skip
    news = read_rate_news(headers, NOW)
    assert news == RateNews({"requests": Quota(499, 500, 0.12), "tokens": Quota(29000, 30000, 3960.5)})


def test_anthropics_headers_are_read() -> None:
    """All four kinds, with moments as RFC 3339 has them."""
    headers = {
        "anthropic-ratelimit-requests-remaining": "7",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:30Z",
        "anthropic-ratelimit-input-tokens-remaining": "100",
        "anthropic-ratelimit-output-tokens-remaining": "200",
    }
    news = read_rate_news(headers, NOW)
    assert news == RateNews({"requests": Quota(7, 50, 30.0), "input_tokens": Quota(100), "output_tokens": Quota(200)})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012), ("6m0s", 360.0), ("1s", 1.0), ("2.5", 2.5), ("0", 0.0), ("1d", 86400.0),
        ("1767225610", 10.0), ("2026-01-01T00:00:05+00:00", 5.0), ("2025-12-31T23:00:00Z", 0.0),
        ("soon", None), ("1x", None), ("s", None), ("-5", None), ("2026-01-01T00:00:05", None), ("nan", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_reset_is_read_in_each_of_its_forms(text: str, seconds: float | None) -> None:
    """Durations, seconds, moments; nonsense is as if nothing was said."""
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": text}
    news = read_rate_news(headers, NOW)
    assert news is not None
    assert news.quotas["requests"].reset == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("remaining", ["-1", "", "many", "inf", "nan"])
def test_what_is_no_figure_is_no_news(remaining: str) -> None:
    """Azure says -1 for what it does not know."""
    assert read_rate_news({"x-ratelimit-remaining-tokens": remaining}, NOW) is None
    assert read_rate_news({}, NOW) is None


@given(st.dictionaries(st.sampled_from(["remaining", "limit", "reset"]), st.text(max_size=30)))
def test_no_header_breaks_the_reader(parts: dict[str, str]) -> None:
    """Whatever a server says, it is news or none."""
    read_rate_news({f"x-ratelimit-{what}-requests": text for what, text in parts.items()}, NOW)


def told(kind: QuotaKind, quota: Quota, now: float = 0.0) -> LearnedLimits:
    learned = LearnedLimits()
    learned.hear(RateNews({kind: quota}), learned.take(now, ONE))
    return learned


def test_what_is_used_up_is_waited_for() -> None:
    """Until the moment the provider named, and then it goes."""
    learned = told("requests", Quota(0, 60, 2.0))
    assert learned.wait(0.5, ONE).seconds == 1.5
    assert learned.wait(2.0, ONE).seconds == 0


def test_a_bucket_that_fills_evenly_is_waited_for_only_as_long_as_needed() -> None:
    """60 a minute, all taken, full in a minute: the next goes after a second."""
    learned = told("requests", Quota(0, 60, 60.0))
    assert learned.wait(0.0, ONE).seconds == pytest.approx(1.0)
    assert learned.wait(1.0, ONE).seconds == 0


def test_what_is_on_its_way_is_subtracted() -> None:
    """Three were left when it was told; three more went since."""
    learned = told("requests", Quota(3, 100, 30.0))
    for _ in range(3):
        assert learned.wait(1.0, ONE).seconds == 0
        learned.take(1.0, ONE)
    assert learned.wait(1.0, ONE).seconds > 0


def test_stale_news_changes_nothing() -> None:
    """Replies overtake each other: what was sent earlier knows less, however late it is heard."""
    learned = LearnedLimits()
    early, late = learned.take(0.0, ONE), learned.take(1.0, ONE)
    learned.hear(RateNews({"requests": Quota(0, 100, 20.0)}), late)
    learned.hear(RateNews({"requests": Quota(100, 100, 20.0)}), early)
    assert learned.wait(2.0, ONE).seconds > 0


def test_newer_news_may_raise_it() -> None:
    """The provider's word of a later request replaces the earlier one."""
    learned = told("tokens", Quota(0, 1000, 3.0))
    learned.hear(RateNews({"tokens": Quota(900, 1000, 3.0)}), learned.take(1.0, ONE))
    assert learned.wait(1.0, ONE).seconds == 0


def test_tokens_are_counted_as_reserved() -> None:
    """A prompt larger than what is left waits, a smaller one goes; one larger than the limit waits for all of it."""
    learned = told("input_tokens", Quota(50, 1000, 10.0))
    assert learned.wait(1.0, Tokens(51.0, 0.0)).seconds == 9.0
    assert learned.wait(1.0, Tokens(50.0, 999.0)).seconds == 0
    assert learned.wait(1.0, Tokens(5000.0, 0.0)).seconds == 9.0


quotas = st.builds(Quota, st.floats(0, 1000), st.none() | st.floats(0, 1000), st.none() | st.floats(0, 100_000))


@given(st.lists(st.tuples(st.sampled_from(["requests", "tokens", "output_tokens"]), quotas, st.floats(0, 100))))
def test_no_word_holds_anyone_back_for_good(news: list[tuple[QuotaKind, Quota, float]]) -> None:
    """Whatever was said, waiting as long as told lets a request go after a few rounds."""
    learned, now = LearnedLimits(), 0.0
    for kind, quota, gap in news:
        now += gap
        learned.hear(RateNews({kind: quota}), learned.take(now, Tokens(5.0, 5.0)))
    for _ in range(10):
        wait = learned.wait(now, Tokens(5.0, 5.0)).seconds
        if wait == 0:
            break
        now += wait + 1e-6
    assert learned.wait(now, Tokens(5.0, 5.0)).seconds == 0


@given(st.integers(1, 100), st.lists(st.floats(0, 2), max_size=200))
def test_a_provider_that_says_what_is_left_is_never_asked_for_more(limit: int, gaps: list[float]) -> None:
    """A server with a fixed window that tells the truth: not one request over its limit, from the first reply on."""
    learned, now, window, used = LearnedLimits(), 0.0, 0, 0
    for gap in [0.0, *gaps]:
        now += gap
        now += learned.wait(now, ONE).seconds
        if now // 10 != window:
            window, used = int(now // 10), 0
        used += 1
        assert used <= limit
        reset = 10 * (window + 1) - now
        learned.hear(RateNews({"requests": Quota(limit - used, limit, reset)}), learned.take(now, ONE))
