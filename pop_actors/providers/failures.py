"""What a provider's error means: may the request be sent again, when, and which of our codes it is. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from pop_actors.core.rate_news import read_rate_news
from pop_actors.core.retries import Fate
from pop_actors.providers.types import AttemptFailed

MAX_MESSAGE = 500

_BY_STATUS: Mapping[int, tuple[str, Fate]] = {
    401: ("auth", "permanent"),
    402: ("quota", "permanent"),
    403: ("auth", "permanent"),
    408: ("timeout", "ambiguous"),
    409: ("server", "ambiguous"),
    429: ("rate_limited", "refused"),
    500: ("server", "ambiguous"),
    502: ("server", "ambiguous"),
    503: ("overloaded", "refused"),
    504: ("server", "ambiguous"),
    529: ("overloaded", "refused"),
}
# A 429 or 403 that waiting does not cure: quota and balance, as OpenAI's and Moonshot's guides and Z.ai's codes say
_QUOTA = frozenset(
    {
        "insufficient_quota", "credit_balance_exhausted", "exceeded_current_quota_error", "billing_hard_limit_reached",
        "billing_not_active", "insufficient_balance", "enforced_spend_limit_reached",
        "1113", "1304", "1308", "1309", "1310", "1311", "1313", "1314",
    }
)  # fmt: skip
# Z.ai tells of a locked account as a 429
_LOCKED = frozenset({"1112", "1121"})
_AUTH = _LOCKED | {"invalid_api_key", "authentication_error", "permission_error", "account_deactivated"}
# what was asked or answered is not allowed: OpenAI's and Azure's words, and Z.ai's codes
_BLOCKED = frozenset({"content_filter", "content_policy_violation", "responsible_ai_policy_violation", "1300", "1301"})
_RATE = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limit_reached_error", "1302", "1303"})
_OVERLOADED = frozenset(
    {"server_is_overloaded", "overloaded_error", "engine_overloaded_error", "slow_down", "1305", "1312"}
)
_BAD_REQUEST = frozenset({"invalid_request_error", "invalid_prompt", "context_length_exceeded"})
# where the words say more than the status
_BY_WORDS: tuple[tuple[frozenset[int], frozenset[str], tuple[str, Fate]], ...] = (
    (frozenset({403, 429}), _QUOTA, ("quota", "permanent")),
    (frozenset({429}), _LOCKED, ("auth", "permanent")),
    (frozenset({400, 403}), _BLOCKED, ("blocked", "permanent")),
    (frozenset({429}), _OVERLOADED, ("overloaded", "refused")),
)
# Z.ai sends neither Retry-After nor any other header: what it says of waiting stands in the body, or nowhere
_TOO_FAST = frozenset({"1302", "1303"})
_TOO_FAST_SECONDS = 1.0
_USED_UP = frozenset({"1308", "1310"})
_RESET = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_RESET_ZONE = "+08:00"  # Beijing's, also in the English message
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def from_status(status: int, headers: Mapping[str, str], body: bytes, now: float) -> AttemptFailed:
    """The failure an error status stands for, as the OpenAI family words it.

    Header names are in lower case; `now` is seconds since the epoch.
    """
    words, message = _error_in(body)
    return failure(status, headers, words, message, now, wait=_wait_in(words, message, _told_at(headers, now)))


def failure(
    status: int,
    headers: Mapping[str, str],
    words: frozenset[str],
    message: str,
    now: float,
    *,
    wait: float | None = None,
) -> AttemptFailed:
    """The failure, for whoever reads the body in another way.

    `words`: the error's machine words; `wait` (s): what the body says of waiting, where the headers say nothing.
    """
    code, fate = _meaning(status, words)
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if should_retry == "false":
        fate = "permanent"
    elif should_retry == "true" and fate == "permanent" and code == "bad_request":
        fate = "refused"
    told = retry_after(headers, now)
    wish = wait if told is None else told
    details: dict[str, Any] = {"status": status}
    if fate == "permanent" and wish is not None:
        details["tryAgainIn"] = wish  # not for this call; for its key
    return AttemptFailed(
        code,
        f"HTTP {status}: {message or 'no message'}",
        fate,
        details=details,
        retry_after=None if fate == "permanent" else wish,
    )


def in_reply(error: Any) -> AttemptFailed:
    """The failure that an error object stands for in a reply that had begun well: it may have been billed."""
    words, message = _words_of(error)
    status = next((int(word) for word in words if word.isdecimal() and len(word) == len("429")), 0)
    code, fate = _meaning(status, words) if status >= HTTPStatus.BAD_REQUEST else _by_words(words)
    return AttemptFailed(
        code,
        f"the provider broke off: {message or 'no message'}",
        "permanent" if fate == "permanent" else "ambiguous",
        details={"words": sorted(words)},
    )


def broken_off(word: str) -> AttemptFailed:
    """The failure of a reply whose ending says no more than that it failed."""
    return AttemptFailed("server", f"the provider broke off: {short(word)}", "ambiguous")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the provider wants to be left alone.

    `retry-after-ms`; `retry-after` in seconds, as a duration or as an HTTP date; else when the limit that is used up
    is reset.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return _until_reset(headers, now)
    seconds = duration(text)
    if seconds is not None:
        return seconds
    try:
        wanted = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):  # neither a number nor a date: as if nothing was said
        return None
    return max(0.0, wanted - _told_at(headers, now))


def duration(text: str | None) -> float | None:
    """Seconds: a number, or one with units (`46s`, `6m0s`, `12ms`); None for what is neither."""
    number = _number(text)
    if number is not None or text is None:
        return number
    parts = _DURATION.findall(text.strip())
    if not parts or "".join(value + unit for value, unit in parts) != text.strip():
        return None
    return sum(float(value) * _UNITS[unit] for value, unit in parts)


def short(text: str) -> str:
    """On one line, and no longer than a message should be."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_MESSAGE else f"{flat[:MAX_MESSAGE]}…"


def _wait_in(words: frozenset[str], message: str, now: float) -> float | None:
    """Seconds, as Z.ai's codes and messages have them."""
    if words & _TOO_FAST:
        return _TOO_FAST_SECONDS
    found = _RESET.search(message) if words & _USED_UP else None
    try:
        reset = None if found is None else datetime.fromisoformat(found[0] + _RESET_ZONE)
    except ValueError:  # a thirteenth month
        return None
    return None if reset is None else max(0.0, reset.timestamp() - now)


def _until_reset(headers: Mapping[str, str], now: float) -> float | None:
    news = read_rate_news(headers, now)
    used_up = [quota.reset for quota in news.quotas.values() if quota.remaining == 0] if news else []
    return max((seconds for seconds in used_up if seconds is not None), default=None)


def _told_at(headers: Mapping[str, str], now: float) -> float:
    """When the provider answered by its own clock, if it says so: ours may be set otherwise."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return now


def _meaning(status: int, words: frozenset[str]) -> tuple[str, Fate]:
    told = (meaning for statuses, telling, meaning in _BY_WORDS if status in statuses and words & telling)
    known = next(told, None) or _BY_STATUS.get(status)
    if known is not None:
        return known
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server", "ambiguous"
    return ("bad_request", "permanent") if status >= HTTPStatus.BAD_REQUEST else ("bad_reply", "permanent")


def _by_words(words: frozenset[str]) -> tuple[str, Fate]:
    """Where no status says it."""
    meanings: tuple[tuple[frozenset[str], tuple[str, Fate]], ...] = (
        (_QUOTA, ("quota", "permanent")),
        (_AUTH, ("auth", "permanent")),
        (_BLOCKED, ("blocked", "permanent")),
        (_RATE, ("rate_limited", "refused")),
        (_OVERLOADED, ("overloaded", "refused")),
        (_BAD_REQUEST, ("bad_request", "permanent")),
    )
    return next((meaning for known, meaning in meanings if words & known), ("server", "ambiguous"))


def _error_in(body: bytes) -> tuple[frozenset[str], str]:
    """The error's machine words and its message, of `{"error": {…}}`, `{"error": "…"}` or anything else."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return frozenset(), short(body.decode("utf-8", "replace"))
    return _words_of(document.get("error", document) if isinstance(document, dict) else document)


def _words_of(error: Any) -> tuple[frozenset[str], str]:
    if isinstance(error, str):
        return frozenset({error}), short(error)
    if not isinstance(error, dict):
        return frozenset(), ""
    words = frozenset(str(error[key]) for key in ("type", "code", "status") if error.get(key) is not None)
    message = error.get("message")
    return words, short(message) if isinstance(message, str) else " ".join(sorted(words))


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
