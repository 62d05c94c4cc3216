"""What Gemini's replies, streams and errors say. Pure; nothing a server sends is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pop_actors.core.chat import FinishReason, ToolCall, Usage
from pop_actors.providers import failures
from pop_actors.providers.openai_form import tool_call
from pop_actors.providers.openai_wire import MAX_TOOL_CALLS, cut_stream, without_text
from pop_actors.providers.reading import bad_reply, count, document_of, json_text, objects, table, text
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent, StreamParser

MAX_PARTS = 1_000_000
_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "FUNCTION_CALL": "tool_calls",  # what some who speak Gemini's language say
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}
_BLOCKED = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION", "MODEL_ARMOR",
        "PUP_LIMITED_DISABLED", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip
LONG_WAIT_SECONDS = 3600.0  # who asks for more has a quota of days
_NO_QUOTA = re.compile(r"\blimit: 0\b|spending cap", re.IGNORECASE)
_BAD_KEY = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED"})


def parse_reply(body: bytes) -> Parsed:
    return _read(document_of(body))


def _read(document: dict[str, Any]) -> Parsed:
    usage = _usage(document.get("usageMetadata"))
    try:
        if document.get("error"):
            raise _in_reply(document)
        candidates = objects(document.get("candidates"))
        if candidates:
            return _parsed(candidates[0], usage or Usage(), text(document.get("modelVersion")))
        reason = text(table(document.get("promptFeedback")).get("blockReason"))
        raise without_text("content_filter", reason) if reason else bad_reply("it has no candidates")
    except AttemptFailed as failure:
        failure.usage = usage
        raise


def _parsed(candidate: dict[str, Any], usage: Usage, model: str) -> Parsed:
    parts = objects(table(candidate.get("content")).get("parts"))
    calls = tuple(_calls(parts))
    content = "".join(text(part.get("text")) for part in parts if not part.get("thought"))
    reason = text(candidate.get("finishReason"))
    finish: FinishReason = "content_filter" if reason in _BLOCKED else _FINISH.get(reason, "other")
    if finish == "stop" and calls:
        finish = "tool_calls"
    if content or calls:
        return Parsed(content, usage, finish, calls, model)
    if finish == "other" and reason:
        raise bad_reply(f"it has no text, and ended with {reason[:100]}")
    raise without_text(finish, reason if finish == "content_filter" else "")


def _calls(parts: list[dict[str, Any]]) -> Iterable[ToolCall]:
    """The tool calls; with the signature the API wants back with them."""
    made = [part for part in parts if text(table(part.get("functionCall")).get("name"))]
    for number, part in enumerate(made[:MAX_TOOL_CALLS], 1):
        call, signature = part["functionCall"], part.get("thoughtSignature")
        extra = {"google": {"thought_signature": signature}} if isinstance(signature, str) else None
        yield tool_call(
            text(call.get("id")) or f"call_{number}", call["name"], json_text(table(call.get("args"))), extra
        )


def _usage(document: Any) -> Usage | None:
    """Usage as billed: what was read from the cache is in the prompt, thoughts are beside the answer."""
    if not isinstance(document, dict):
        return None
    thoughts = count(document.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=count(document.get("promptTokenCount")) + count(document.get("toolUsePromptTokenCount")),
        output_tokens=count(document.get("candidatesTokenCount")) + thoughts,
        cached_tokens=count(document.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def parse_error(status: int, headers: Mapping[str, str], body: bytes, now: float) -> AttemptFailed:
    try:
        # a stream that fails at once has a list of one error
        document = document_of(body.strip().removeprefix(b"[").removesuffix(b"]"))
    except AttemptFailed:  # a proxy's page, or nothing
        document = {}
    error = document.get("error")
    if not isinstance(error, dict):
        return failures.from_status(status, headers, body, now)
    return _failure(status, headers, error, now)


def _failure(status: int, headers: Mapping[str, str], error: dict[str, Any], now: float) -> AttemptFailed:
    details = objects(error.get("details"))
    message = text(error.get("message"))
    words = frozenset(text(detail.get("reason")) for detail in details) | {text(error.get("status"))}
    wait = _wait(details)
    failure = failures.failure(status, headers, words, failures.short(message), now, wait=wait)
    if _is_spent(status, details, message, wait) or "BILLING_DISABLED" in words:
        if wait is not None and wait >= LONG_WAIT_SECONDS:  # a shorter one is that of the minute's quota
            failure.details["tryAgainIn"] = wait
        return AttemptFailed("quota", failure.message, "permanent", details=failure.details)
    if words & _BAD_KEY:
        return AttemptFailed("auth", failure.message, "permanent", details=failure.details)
    return failure


def _wait(details: list[dict[str, Any]]) -> float | None:
    """Seconds, as RetryInfo has them: `46s`."""
    told = (failures.duration(text(detail.get("retryDelay"))) for detail in details if "retryDelay" in detail)
    return next((seconds for seconds in told if seconds is not None), None)


def _is_spent(status: int, details: list[dict[str, Any]], message: str, wait: float | None) -> bool:
    """A 429 that waiting for a while does not cure: a quota of the day, or one of nothing at all."""
    if status != HTTPStatus.TOO_MANY_REQUESTS:
        return False
    violations = (violation for detail in details for violation in objects(detail.get("violations")))
    daily = any("PerDay" in text(violation.get("quotaId")) for violation in violations)
    return daily or _NO_QUOTA.search(message) is not None or (wait is not None and wait >= LONG_WAIT_SECONDS)


def _in_reply(document: dict[str, Any]) -> AttemptFailed:
    """An error where a reply had begun: it may have been billed."""
    error = table(document["error"])
    failure = _failure(count(error.get("code")) or HTTPStatus.INTERNAL_SERVER_ERROR, {}, error, 0.0)
    if failure.fate == "refused":
        failure.fate = "ambiguous"
    return failure


class ContentStream:
    """Streamed content, put together to what a plain reply would have been. Ends by a `finishReason`."""

    def __init__(self) -> None:
        self.began = False
        self.done = False
        self._parts: list[dict[str, Any]] = []
        self._finish = ""
        self._feedback: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._model = ""

    def feed(self, event: ServerEvent) -> None:
        if self.done:
            return
        chunk = document_of(event.data, "an event of the stream")
        self._usage |= table(chunk.get("usageMetadata"))
        self._feedback |= table(chunk.get("promptFeedback"))
        self._model = self._model or text(chunk.get("modelVersion"))
        if chunk.get("error"):
            failure = _in_reply(chunk)
            failure.usage = self.usage()
            raise failure
        for candidate in objects(chunk.get("candidates"))[:1]:
            self._take(objects(table(candidate.get("content")).get("parts")))
            self._finish = text(candidate.get("finishReason")) or self._finish
        # the bill may come after the end
        self.done = self._ended and "usageMetadata" in chunk

    @property
    def _ended(self) -> bool:
        return bool(self._finish or self._feedback.get("blockReason"))

    def _take(self, parts: list[dict[str, Any]]) -> None:
        if len(self._parts) + len(parts) > MAX_PARTS:
            raise bad_reply(f"it has over {MAX_PARTS} parts")
        self.began = self.began or bool(parts)
        # what it thought is not kept: it may be long, and nobody asked for it
        self._parts += [part for part in parts if not part.get("thought")]

    def usage(self) -> Usage | None:
        return _usage(self._usage) if self._usage else None

    def close(self) -> Parsed:
        if not self._ended:
            raise cut_stream(self.usage())
        candidate = {"content": {"parts": self._parts}, "finishReason": self._finish}
        whole = {"candidates": [candidate] if self._finish else [], "promptFeedback": self._feedback}
        return _read({**whole, "usageMetadata": self._usage or None, "modelVersion": self._model})


def open_stream() -> StreamParser:
    return ContentStream()
