"""What a provider's error means: may the request be sent again, when, and which of our codes it is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from pop_actors.core.limits import Fate
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
        "billing_not_active", "insufficient_balance", "1113", "1308", "1309", "1310", "1311", "1314",
    }
)  # fmt: skip


def from_status(status: int, headers: Mapping[str, str], body: bytes, now: float) -> AttemptFailed:
    """The failure an error status stands for. Header names are in lower case; `now` is seconds since the epoch."""
    words, message = _error_of(body)
    code, fate = _meaning(status, words)
    if headers.get("x-should-retry", "").strip().lower() == "false":
        fate = "permanent"
    wait = None if fate == "permanent" else retry_after(headers, now)
    return AttemptFailed(
        code, f"HTTP {status}: {message or 'no message'}", fate, details={"status": status}, retry_after=wait
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the provider wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        wanted = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):  # neither a number nor a date: as if nothing was said
        return None
    return max(0.0, wanted - _told_at(headers, now))


def _told_at(headers: Mapping[str, str], now: float) -> float:
    """When the provider answered by its own clock, if it says so: ours may be set otherwise."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return now


def _meaning(status: int, words: frozenset[str]) -> tuple[str, Fate]:
    if status in {403, 429} and words & _QUOTA:
        return "quota", "permanent"
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server", "ambiguous"
    return ("bad_request", "permanent") if status >= HTTPStatus.BAD_REQUEST else ("bad_reply", "permanent")


def _error_of(body: bytes) -> tuple[frozenset[str], str]:
    """The error's machine words and its message, of `{"error": {…}}`, `{"error": "…"}` or anything else."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return frozenset(), _short(body.decode("utf-8", "replace"))
    error = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, str):
        return frozenset({error}), _short(error)
    if not isinstance(error, dict):
        return frozenset(), ""
    words = frozenset(str(error[key]) for key in ("type", "code", "status") if error.get(key) is not None)
    message = error.get("message")
    return words, _short(message) if isinstance(message, str) else " ".join(sorted(words))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_MESSAGE else f"{flat[:MAX_MESSAGE]}…"


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
