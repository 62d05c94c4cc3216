"""What is looked at of every provider: one function per row of the table in docs/providers.md.

Each makes the request, looks at what left and at what came of it, and says it in the words that stand in the table.
A dot leads from a field to one inside it, brackets name the role or the type of a list's item.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from every_provider import KEYS, Subject

from pop_actors.credentials import PROVIDER_KEYS
from pop_actors.providers import catalogue
from pop_actors.providers.types import AttemptFailed, ProviderReply

Probe = Callable[[Subject], str]
FEATURES: dict[str, Probe] = {}
"""By the row's title."""

NONE, TAKEN, LEFT_OUT, REFUSED = "—", "taken", "left out", "refused"
MARK = "a-word-nobody-else-says"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": MARK,
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Rome"}'}}
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string", "description": MARK}},
    "required": ["verdict"],
    "additionalProperties": False,
}
DATA = "aaaa" * 8
PICTURE = f"data:image/png;base64,{DATA}"


def feature(title: str) -> Callable[[Probe], Probe]:
    def note(probe: Probe) -> Probe:
        FEATURES[title] = probe
        return probe

    return note


def places(value: Any, mark: Any, path: str = "") -> Iterator[str]:
    """Where the mark (in lower case) stands in a JSON value: as a part of a text, or as the value itself."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, mark, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            kind = (item.get("role") or item.get("type")) if isinstance(item, dict) else None
            yield from places(item, mark, f"{path}[{kind}]" if kind else path)
    elif (isinstance(mark, str) and isinstance(value, str) and mark in value.lower()) or str(value) == str(mark):
        yield path


def where(subject: Subject, mark: Any, *, until: Sequence[str] = (), model: str | None = None, **request: Any) -> str:
    """What becomes of a part of a request: where it went, or that it went nowhere. `until`: no further than there."""
    reply = unless_refused(subject, model, **request)
    if reply is None:
        return REFUSED
    assert reply.content or reply.tool_calls
    if subject.sent is None:
        return TAKEN
    found = next(places(subject.sent, mark), LEFT_OUT)
    ends = [found.index(end) + len(end) for end in until if end in found]
    return found[: min(ends)] if ends else found


def unless_refused(subject: Subject, model: str | None, **request: Any) -> ProviderReply | None:
    """The reply; None where the request fails before it is sent."""
    before = subject.requests
    try:
        return subject.ask(model, **request)
    except AttemptFailed as failure:
        if (failure.code, failure.fate, subject.requests) != ("bad_request", "permanent", before):
            raise
        return None


def counted(subject: Subject, feature: str, kind: str, number: int) -> str:
    model = subject.script(feature)
    if model is None:
        return NONE
    usage = subject.ask(model).usage
    found = getattr(usage, kind)
    assert found in {0, number}
    whole = usage.output_tokens if kind == "reasoning_tokens" else usage.input_tokens
    assert found <= whole, "a part is never more than its whole"
    return "counted" if found else NONE


def failed(subject: Subject, feature: str) -> str:
    """The code of a failure, and what follows from it."""
    model = subject.script(feature)
    if model is None:
        return NONE
    failure = subject.failure(model)
    what = {"permanent": "final", "refused": "sent again", "ambiguous": "may be paid", "never_sent": "sent again"}
    billed = ", billed" if failure.usage is not None else ""
    return f"{failure.code}, {what[failure.fate]}{billed}"


# Who is asked, and as whom


@feature("asked at")
def _(subject: Subject) -> str:
    subject.ask(subject.model)
    sent = subject.sent
    if sent is None:
        return NONE
    if "path" in sent:
        vendor = catalogue.vendor_of(subject.name, subject.kind)
        assert subject.table is not None
        assert vendor is not None
        path = str(sent["path"]).removeprefix(urlsplit(subject.table.base_url).path)
        return (vendor.base_url.removeprefix("https://") or "base_url") + path.replace(subject.model, "MODEL")
    return next(place for place in places(sent, "http://127.0.0.1:9"))


@feature("model where nobody names one")
def _(subject: Subject) -> str:
    model = catalogue.default_model(subject.name, subject.kind)
    if model is None:
        return NONE
    subject.ask(model)
    assert subject.sent is None or any(places(subject.sent, model))
    return model


@feature("key is read from")
def _(subject: Subject) -> str:
    return PROVIDER_KEYS.get(subject.name, NONE)


@feature("key is sent in")
def _(subject: Subject) -> str:
    subject.ask(keyed=True)
    if subject.sent is None:
        return NONE
    (place,) = {place for key in KEYS for place in places(subject.sent, key)}
    return place.removeprefix("headers.")


@feature("next key takes over")
def _(subject: Subject) -> str:
    model = subject.script("badkey once")
    if model is None:
        return NONE
    before = subject.requests
    # a server that refuses every key leaves none standing
    with contextlib.suppress(AttemptFailed):
        subject.ask(model, keyed=True)
    assert subject.requests == before + 2
    return "yes"


@feature("calls at once, unless set")
def _(subject: Subject) -> str:
    most = catalogue.max_concurrency(subject.name, subject.kind)
    return "no limit" if most is None else str(most)


# What is said


def _instruction(subject: Subject, role: str) -> str:
    messages = [{"role": role, "content": MARK}, {"role": "user", "content": f"hello from {role}"}]
    ends = ("[system]", "[developer]", "instructions", "systemInstruction")
    return where(subject, MARK, until=ends, messages=messages)


@feature("system")
def _(subject: Subject) -> str:
    return _instruction(subject, "system")


@feature("developer")
def _(subject: Subject) -> str:
    return _instruction(subject, "developer")


@feature("assistant")
def _(subject: Subject) -> str:
    said = [("user", "first"), ("assistant", MARK), ("user", "next")]
    messages = [{"role": role, "content": content} for role, content in said]
    return where(subject, MARK, until=("[assistant]", "[model]"), messages=messages)


@feature("images")
def _(subject: Subject) -> str:
    content = [
        {"type": "text", "text": "what is on it?"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    found = where(subject, DATA, messages=[{"role": "user", "content": content}])
    return found.replace("messages[user].", "").replace("input[user].", "").replace("contents[user].", "")


@feature("tools")
def _(subject: Subject) -> str:
    model = subject.script("tool") or subject.model
    found = where(subject, MARK, model=model, tools=[TOOL]).removesuffix(".description")
    if found in {REFUSED, TAKEN}:
        return found
    (call,) = subject.ask(model, tools=[TOOL]).tool_calls
    assert call["function"]["name"] == "weather"
    return found


@feature("a tool that must be used")
def _(subject: Subject) -> str:
    model = subject.script("tool") or subject.model
    choice = {"type": "function", "function": {"name": "weather"}}
    reply = unless_refused(subject, model, tools=[TOOL], tool_choice=choice)
    if reply is None:
        return REFUSED
    assert [call["function"]["name"] for call in reply.tool_calls] == ["weather"]
    if subject.sent is None:
        return "obeyed"
    return next(place for place in places(subject.sent, "weather") if "hoice" in place or "onfig" in place)


@feature("tool replies")
def _(subject: Subject) -> str:
    messages = [
        {"role": "user", "content": "how is the weather?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": MARK},
    ]
    ends = ("[tool]", "[function_call_output]", "[tool_result]", "functionResponse")
    return where(subject, MARK, until=ends, messages=messages).replace("messages[user].", "").replace(
        "contents[user].", ""
    )  # fmt: skip


# How it is to be answered


@feature("max tokens")
def _(subject: Subject) -> str:
    return where(subject, 7777, max_tokens=7777)


@feature("max tokens, unless asked")
def _(subject: Subject) -> str:
    subject.ask()
    sent = subject.sent or {}
    return str(sent["max_tokens"]) if "max_tokens" in sent else "not sent"


@feature("temperature")
def _(subject: Subject) -> str:
    found = where(subject, 0.375, temperature=0.375)
    if found != LEFT_OUT:
        return found
    unthinking = where(subject, 0.375, temperature=0.375, reasoning_effort="none")
    return LEFT_OUT if unthinking == LEFT_OUT else f"{unthinking}, with effort none only"


@feature("temperature, unless asked")
def _(subject: Subject) -> str:
    subject.ask()
    return "not sent" if "emperature" not in json.dumps(subject.sent or {}) else "sent"


@feature("stop")
def _(subject: Subject) -> str:
    return where(subject, MARK, stop=[MARK])


@feature("reasoning effort")
def _(subject: Subject) -> str:
    return where(subject, "high", reasoning_effort="high")


@feature("reasoning effort none")
def _(subject: Subject) -> str:
    before = subject.ask(reasoning_effort="none")
    assert before.content
    sent = subject.sent
    if sent is None:
        return TAKEN
    words = ("none", "disabled", "low", "minimal")
    found = [f"{place}: {word}" for word in words for place in places(sent, word) if _is_about_thinking(place)]
    return found[0] if found else LEFT_OUT


def _is_about_thinking(place: str) -> bool:
    return any(word in place for word in ("effort", "hinking", "reasoning"))


@feature("JSON")
def _(subject: Subject) -> str:
    messages = [{"role": "user", "content": "a document of the answer, please"}]
    reply = subject.ask(messages=messages, response_format="json")
    sent = subject.sent
    if sent is None:
        assert json.loads(reply.content)
        return "native"
    native = [*places(sent, "json_object"), *places(sent, "application/json")]
    native = [place for place in native if not place.startswith("headers")]
    if native:
        assert json.loads(reply.content)
        return native[0]
    assert any(places(sent, "json object"))
    return "instructed"


@feature("JSON Schema")
def _(subject: Subject) -> str:
    reply = subject.ask(response_format=SCHEMA)
    assert list(json.loads(reply.content)) == ["verdict"]
    if subject.sent is None:
        return "native"
    place = next(places(subject.sent, MARK))
    if place.endswith("properties.verdict.description"):
        return f"native: {place.partition('.properties')[0]}"
    return "native: --json-schema" if place == "--json-schema" else "shown"


@feature("streaming")
def _(subject: Subject) -> str:
    messages = [{"role": "user", "content": "the same either way"}]
    plain, streamed = (subject.ask(stream=stream, messages=messages) for stream in ("never", "always"))
    assert (streamed.usage, streamed.finish_reason) == (plain.usage, plain.finish_reason)
    sent = subject.sent or {}
    if sent.get("stream") is True:
        return "stream"
    return ":streamGenerateContent" if "streamGenerateContent" in sent.get("path", "") else NONE


@feature("a stream that ends early")
def _(subject: Subject) -> str:
    model = subject.script("cut")
    if model is None:
        return NONE
    failure = subject.failure(model, stream="always")
    assert failure.fate == "ambiguous"
    return failure.code


# What it comes to


@feature("input and output tokens")
def _(subject: Subject) -> str:
    usage = subject.ask().usage
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0
    return "counted"


@feature("cached tokens")
def _(subject: Subject) -> str:
    return counted(subject, "cached", "cached_tokens", 5)


@feature("cache-write tokens")
def _(subject: Subject) -> str:
    return counted(subject, "written", "cache_write_tokens", 7)


@feature("reasoning tokens")
def _(subject: Subject) -> str:
    return counted(subject, "reasoning", "reasoning_tokens", 2)


@feature("price")
def _(subject: Subject) -> str:
    cost = subject.ask(subject.model).cost_usd
    if cost is None:
        return "by settings"
    if cost == 0:
        return "free"
    return "as the CLI says" if subject.kind == "claude-code" else "known"


@feature("refusal")
def _(subject: Subject) -> str:
    return failed(subject, "blocked")


@feature("tokens ran out before any text")
def _(subject: Subject) -> str:
    return failed(subject, "truncated")


@feature("bad key")
def _(subject: Subject) -> str:
    return failed(subject, "badkey")


@feature("quota or balance used up")
def _(subject: Subject) -> str:
    return failed(subject, "quota")


@feature("overloaded")
def _(subject: Subject) -> str:
    return failed(subject, "overloaded")


@feature("error of its own (500)")
def _(subject: Subject) -> str:
    return failed(subject, "broken")


@feature("how long to wait after a 429")
def _(subject: Subject) -> str:
    models = [model for model in map(subject.script, ("wait", "wait in body")) if model is not None]
    waits = []
    for model in models:
        failure = subject.failure(model)
        assert (failure.code, failure.fate) == ("rate_limited", "refused")
        waits.append({None: "not told", 7.0: "Retry-After", 46.0: "RetryInfo"}[failure.retry_after])
    return ", ".join(waits) or NONE


@feature("limits learned from headers")
def _(subject: Subject) -> str:
    model = subject.script("limits")
    if model is None:
        return NONE
    news = subject.ask(model).rate_news
    assert news is not None
    assert (news.quotas["requests"].remaining, news.quotas["requests"].limit) == (3, 10)
    return "anthropic-ratelimit-*" if subject.kind == "anthropic" else "x-ratelimit-*"
