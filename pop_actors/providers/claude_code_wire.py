"""What the Claude Code CLI is told and what it says, as of version 2.1: arguments, prompt, settings, result. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, FinishReason, Message, Usage
from pop_actors.core.retries import Fate
from pop_actors.providers import failures
from pop_actors.providers.openai_form import JSON_ONLY, bad_request, conversation, instructions
from pop_actors.providers.reading import bad_reply, count, table, text
from pop_actors.providers.types import AttemptFailed, Parsed

MOST_SCHEMA_BYTES = 100_000  # Linux takes no argument over 128 KiB
TURNS_FOR_SCHEMA = 4  # it hands the document over as a tool's input, and corrects it where it does not conform

ENVIRONMENT: Mapping[str, str] = {
    "CLAUDE_CODE_MAX_RETRIES": "0",  # the gateway retries, by its own limits
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",  # or `@/any/file` in a prompt sends that file
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    "DISABLE_AUTOUPDATER": "1",
}
_BARE = ("--bare",)  # no hooks, plugins, memory, keychain; works with a key only
_SAFE = ("--safe-mode", "--strict-mcp-config")  # the like for whoever is logged in
_MODEL = re.compile(r"[!-~]{1,200}")  # one word
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",  # how a document of a schema is handed over; it has no other tools
    "max_tokens": "length",
    "refusal": "content_filter",
}
_LIMIT_UNTIL = re.compile(r"limit reached\|(\d{9,11})\b")
_WORDS: tuple[tuple[re.Pattern[str], str, Fate], ...] = (
    (re.compile(r"credit balance|usage limit|hit your limit|limit reached", re.IGNORECASE), "quota", "permanent"),
    (re.compile(r"not logged in|invalid api key|/login|oauth token", re.IGNORECASE), "auth", "permanent"),
    (re.compile(r"unable to connect", re.IGNORECASE), "connect", "never_sent"),
    (re.compile(r"prompt is too long", re.IGNORECASE), "bad_request", "permanent"),
    (re.compile(r"timed out|timeout", re.IGNORECASE), "timeout", "ambiguous"),
    (re.compile(r"connection|network|socket", re.IGNORECASE), "disconnected", "ambiguous"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What the CLI reports. `cost_usd` is its own reckoning; None where it has none."""

    document: dict[str, Any]
    usage: Usage
    cost_usd: float | None


def arguments(request: ChatRequest, model: str, *, system_file: str | None, key_pipe: str | None) -> list[str]:
    """What follows the command. AttemptFailed bad_request for what the CLI cannot be told.

    `system_file`: where `system_prompt` stands; `key_pipe`: where the key can be read, None: it is logged in itself.
    """
    if not _MODEL.fullmatch(model):
        raise bad_request(f"{model[:80]!r} is no model's name")
    if request.tools:
        raise bad_request("claude-code takes no tools; ask the provider anthropic")
    schema = request.response_format if isinstance(request.response_format, dict) else None
    turns = 1 if schema is None else TURNS_FOR_SCHEMA
    said = ["-p", "--output-format", "json", "--no-session-persistence", "--tools", "", f"--max-turns={turns}"]
    said += _SAFE if key_pipe is None else _BARE
    said += [f"--model={model}", *(["--system-prompt", ""] if system_file is None else [])]
    if system_file is not None:
        said.append(f"--system-prompt-file={system_file}")
    if key_pipe is not None:
        said.append(f"--settings={_settings(key_pipe)}")
    if request.reasoning_effort is not None:
        said.append(f"--effort={request.reasoning_effort}")
    if schema is not None:
        shown = orjson.dumps(schema).decode()
        if len(shown.encode()) > MOST_SCHEMA_BYTES:
            raise bad_request(f"claude-code takes no schema of over {MOST_SCHEMA_BYTES} bytes")
        said.append(f"--json-schema={shown}")
    return said


def _settings(key_pipe: str) -> str:
    # a key in its environment could be read there by every process of the same user
    quoted = "'" + key_pipe.replace("'", "'\\''") + "'"
    return orjson.dumps({"apiKeyHelper": f'IFS= read -r key <{quoted} && printf %s "$key"'}).decode()


def system_prompt(request: ChatRequest) -> str:
    """The instructions of all system and developer messages; empty where there are none."""
    said = [_text(message) for message in instructions(request)]
    return "\n\n".join([*said, JSON_ONLY] if request.response_format == "json" else said)


def prompt(request: ChatRequest) -> bytes:
    """What goes to standard input: the user's message, or a conversation told as one."""
    said = conversation(request)
    if len(said) == 1 and said[0].role == "user":
        told = _text(said[0])
    else:
        turns = "\n\n".join(f"<{message.role}>\n{_text(message)}\n</{message.role}>" for message in said)
        told = f"Write the assistant's next message in this conversation, and nothing else.\n\n{turns}"
    # a slash at the very beginning would make it a command of the CLI
    return (f"\n{told}" if told.startswith("/") else told).encode()


def _text(message: Message) -> str:
    if isinstance(message.content, list) and any(part.get("type") != "text" for part in message.content):
        raise bad_request("claude-code takes text only; ask the provider anthropic")
    return message.text


def is_whole(output: bytes) -> bool:
    """Whether the result is here. What it does after that is of no use: at times it hangs."""
    return output.rstrip().endswith((b"}", b"]")) and result_in(output) is not None


def result_in(output: bytes) -> Result | None:
    """The result in what it wrote; None where it wrote none (yet)."""
    for line in reversed(output.splitlines()):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        found = value[-1] if isinstance(value, list) and value else value
        if isinstance(found, dict) and found.get("type") == "result":
            return Result(found, _usage(table(found.get("usage"))), _cost(found.get("total_cost_usd")))
    return None


def reply(result: Result, request: ChatRequest, now: float) -> Parsed:
    """The completion. AttemptFailed, with its usage where there was any, where it is none; `now`: of the epoch."""
    document, usage = result.document, result.usage
    try:
        if document.get("is_error") or document.get("subtype") != "success":
            raise _error(document, now)
        finish = _FINISH.get(text(document.get("stop_reason")), "other")
        return Parsed(_content(document, request, finish), usage, finish)
    except AttemptFailed as failure:
        failure.usage = usage if usage != Usage() else None
        raise


def _content(document: dict[str, Any], request: ChatRequest, finish: FinishReason) -> str:
    structured = document.get("structured_output")
    if isinstance(request.response_format, dict) and structured is not None:
        return orjson.dumps(structured).decode()
    content = text(document.get("result"))
    if finish == "content_filter":
        raise AttemptFailed("blocked", f"the model would not answer: {failures.short(content)}", "permanent")
    if not content.strip():
        if finish == "length":
            raise AttemptFailed("truncated", "the tokens ran out before any text; raise max_tokens", "permanent")
        raise bad_reply("it has no text")
    fenced = None if request.response_format == "text" else _FENCED.fullmatch(content)
    return fenced[1] if fenced else content


def _error(document: dict[str, Any], now: float) -> AttemptFailed:
    said = failures.short(text(document.get("result")) or text(document.get("subtype")) or "no message")
    if text(document.get("subtype")).startswith("error_max"):  # turns, or tries at the schema: it has answered
        return bad_reply(f"the CLI gave up: {text(document.get('subtype'))}")
    status = document.get("api_error_status")
    code, fate = next(((code, fate) for words, code, fate in _WORDS if words.search(said)), ("server", "ambiguous"))
    if isinstance(status, int) and not isinstance(status, bool) and fate != "permanent":
        return failures.failure(status, {}, frozenset(), said, now)
    failure = AttemptFailed(code, said, fate, details={} if status is None else {"status": status})
    until = _LIMIT_UNTIL.search(said)
    if until:
        failure.details["tryAgainIn"] = max(0.0, int(until[1]) - now)
    return failure


def without_result(code: int | None, errors: str, folder: str) -> AttemptFailed:
    """It ended and said nothing. What it had asked for by then may have been paid."""
    said = failures.short(errors.replace(folder, "…")) or "nothing"
    if "unknown option" in errors:
        return AttemptFailed("bad_request", f"the CLI is too old or too new, it says: {said}", "permanent")
    how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    return AttemptFailed("disconnected", f"it ended {how} and no result; it said: {said}", "ambiguous")


def _usage(usage: dict[str, Any]) -> Usage:
    read, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) + read + written,
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(table(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _cost(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)
