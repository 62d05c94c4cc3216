"""What an error of a provider means: code, fate and wait, of statuses, bodies, headers and broken replies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.providers import failures


@pytest.mark.parametrize(
    ("status", "words", "code", "fate"),
    [
        (400, {}, "bad_request", "permanent"),
        (401, {}, "auth", "permanent"),
        (402, {}, "quota", "permanent"),
        (403, {}, "auth", "permanent"),
        (403, {"type": "exceeded_current_quota_error"}, "quota", "permanent"),
        (404, {}, "bad_request", "permanent"),
        (408, {}, "timeout", "ambiguous"),
        (422, {}, "bad_request", "permanent"),
        (429, {}, "rate_limited", "refused"),
        (429, {"code": "insufficient_quota"}, "quota", "permanent"),
        (429, {"code": "1113"}, "quota", "permanent"),
        (429, {"code": "1302"}, "rate_limited", "refused"),
        (429, {"code": 1308}, "quota", "permanent"),
        (429, {"code": "1310"}, "quota", "permanent"),
        (429, {"code": "1304"}, "quota", "permanent"),
        (429, {"code": "1305"}, "overloaded", "refused"),
        (429, {"code": "1312"}, "overloaded", "refused"),
        (429, {"code": "1313"}, "quota", "permanent"),
        (429, {"code": "1112"}, "auth", "permanent"),
        (429, {"code": "1121"}, "auth", "permanent"),
        (400, {"code": "1300"}, "blocked", "permanent"),
        (429, {"type": "engine_overloaded_error"}, "overloaded", "refused"),
        (429, {"code": "enforced_spend_limit_reached"}, "quota", "permanent"),
        (400, {"code": "content_policy_violation"}, "blocked", "permanent"),
        (400, {"code": "1301"}, "blocked", "permanent"),
        (500, {}, "server", "ambiguous"),
        (502, {}, "server", "ambiguous"),
        (503, {}, "overloaded", "refused"),
        (504, {}, "server", "ambiguous"),
        (529, {}, "overloaded", "refused"),
        (599, {}, "server", "ambiguous"),
        (307, {}, "bad_reply", "permanent"),
    ],
)
def test_a_status_says_what_became_of_the_request(status: int, words: dict[str, str], code: str, fate: str) -> None:
    """Code and fate of each status, and of the 429s and 403s that waiting does not cure."""
    failure = failures.from_status(status, {}, orjson.dumps({"error": {"message": "no", **words}}), 0.0)
    assert (failure.code, failure.fate) == (code, fate)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after": "2s soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"retry-after": "1", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12ms"}, 1.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, a duration, an HTTP date, the reset of a limit that is used up; nonsense says nothing."""
    assert failures.retry_after(headers, 10.0) == seconds


def test_a_provider_may_forbid_the_retry() -> None:
    """x-should-retry: false wins over a status that would be retried."""
    assert failures.from_status(503, {"x-should-retry": "false", "retry-after": "1"}, b"", 0.0).fate == "permanent"


@pytest.mark.parametrize(
    ("status", "code", "fate"),
    [(400, "bad_request", "refused"), (401, "auth", "permanent"), (402, "quota", "permanent")],
)
def test_a_provider_may_ask_for_the_retry(status: int, code: str, fate: str) -> None:
    """x-should-retry: true makes a refusal of it; no key and no money it cannot heal."""
    failure = failures.from_status(status, {"x-should-retry": "true"}, b"", 0.0)
    assert (failure.code, failure.fate) == (code, fate)


def test_a_refusal_for_good_says_nothing_of_waiting() -> None:
    """Retry-After with an empty account would only make everybody wait."""
    body = orjson.dumps({"error": {"code": "insufficient_quota"}})
    assert failures.from_status(429, {"retry-after": "9"}, body, 0.0).retry_after is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Usage limit reached for 5 hour. Your limit will reset at 1970-01-01 10:00:00", 7200.0),
        ("已达到 5 小时的使用上限。您的限额将在 1970-01-01 09:00:00 重置", 3600.0),
        ("Your limit will reset at 1970-01-01 07:00:00", 0.0),
        ("Your limit will reset at 1970-13-01 07:00:00", None),
        ("Your limit will reset soon", None),
    ],
)
def test_a_key_of_zai_rests_until_the_time_the_message_names(message: str, seconds: float | None) -> None:
    """Nothing but the message tells when a used-up plan is whole again, and it does so in Beijing's time."""
    for code in ("1308", "1310"):
        failure = failures.from_status(429, {}, orjson.dumps({"error": {"code": code, "message": message}}), 0.0)
        assert (failure.retry_after, failure.details.get("tryAgainIn")) == (None, seconds)


@pytest.mark.parametrize("code", ["1302", "1303"])
def test_zai_is_left_alone_for_a_second_when_it_does_not_say_how_long(code: str) -> None:
    """It sends no Retry-After; one that somebody in between sends is heeded."""
    body = orjson.dumps({"error": {"code": code, "message": "too many"}})
    assert failures.from_status(429, {}, body, 0.0).retry_after == 1.0
    assert failures.from_status(429, {"retry-after": "7"}, body, 0.0).retry_after == 7.0


@given(
    st.binary(max_size=200), st.integers(300, 599), st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text())
)
def test_no_error_body_breaks_the_reader(body: bytes, status: int, headers: dict[str, str]) -> None:
    """Whatever stands in an error, it comes to a failure with a message that is no longer than it should be."""
    failure = failures.from_status(status, headers, body, 0.0)
    assert failure.message.startswith(f"HTTP {status}: ")
    assert len(failure.message) < failures.MAX_MESSAGE + 20


@pytest.mark.parametrize("error", [None, 7, [], {}, {"message": 3}, {"code": []}, "x"])
def test_an_error_in_a_reply_may_have_been_billed(error: Any) -> None:
    """What is not known to be for good is ambiguous: it had begun."""
    assert failures.in_reply(error).fate == "ambiguous"
