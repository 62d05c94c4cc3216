"""What the end of a request says to admission: of the model, and of the tokens it used."""

from __future__ import annotations

import pytest

from pop_actors.core.chat import Usage
from pop_actors.core.circuit import Verdict
from pop_actors.core.rate_news import Quota, RateNews
from pop_actors.core.retries import Fate
from pop_actors.core.token_guess import Tokens
from pop_actors.providers.types import AttemptFailed, ProviderReply
from pop_actors.system.gateway.desk import outcome_of

NONE = Tokens(0.0, 0.0)


@pytest.mark.parametrize(
    ("code", "fate", "verdict", "tokens"),
    [
        ("rate_limited", "refused", "refused", NONE),
        ("overloaded", "refused", "overloaded", NONE),
        ("server", "ambiguous", "failed", None),
        ("disconnected", "ambiguous", "failed", None),
        ("timeout", "ambiguous", "timeout", None),
        ("connect", "never_sent", "failed", NONE),
        ("connect", "permanent", "unknown", NONE),
        ("bad_request", "permanent", "answered", NONE),
        ("auth", "permanent", "answered", NONE),
        ("quota", "permanent", "answered", NONE),
        ("bad_reply", "permanent", "failed", NONE),
    ],
)
def test_each_failure_has_its_verdict(code: str, fate: Fate, verdict: Verdict, tokens: Tokens | None) -> None:
    """Only what is the model's own failure counts against it; what may have been worked on keeps its reservation."""
    outcome = outcome_of(AttemptFailed(code, "no", fate, retry_after=3.0))
    assert (outcome.verdict, outcome.tokens, outcome.retry_after) == (verdict, tokens, 3.0)


def test_what_was_billed_counts_whatever_came_of_it() -> None:
    """The usage of a reply, and of a failure that has one; with what the headers said."""
    usage, news = Usage(input_tokens=3, output_tokens=4), RateNews({"requests": Quota(1)})
    reply = outcome_of(ProviderReply("hi", usage, "stop", None, rate_news=news))
    failure = outcome_of(AttemptFailed("truncated", "no", "permanent", usage=usage, rate_news=news))
    assert reply.tokens == failure.tokens == Tokens(3, 4)
    assert reply.news is failure.news is news


def test_of_what_was_cancelled_nobody_knows() -> None:
    """It says nothing of the model, and its reservation stands."""
    assert (outcome_of(None).verdict, outcome_of(None).tokens) == ("unknown", None)
