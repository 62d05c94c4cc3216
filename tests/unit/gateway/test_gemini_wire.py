"""Gemini's wire format: what is asked of which model, what is read, and that nothing a server says breaks it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import gemini_wire as wire
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.fitting import fit
from pop_actors.providers.types import AttemptFailed, ServerEvent

VENDOR = VENDORS["gemini"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "description": "See.", "parameters": SCHEMA}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": "b"}'}}
WORDS = (
    "candidates", "content", "parts", "text", "thought", "functionCall", "name", "args", "finishReason", "STOP",
    "usageMetadata", "promptTokenCount", "promptFeedback", "blockReason", "error", "code", "message", "status",
    "details", "retryDelay", "46s", "violations", "quotaId", "PerDay", "reason", "thoughtSignature",
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)


def sent(model: str = "gemini-3.8-flash", *, stream: bool = False, **request: Any) -> tuple[str, dict[str, Any]]:
    """Path and body, of a request brought to what the model takes."""
    request.setdefault("messages", [{"role": "user", "content": "hello"}])
    fitting, _ = fit(ChatRequest(**request), model, VENDOR, drop=True)
    outgoing = wire.request(fitting, model, VENDOR, stream=stream)
    return outgoing.path, orjson.loads(outgoing.body)


def asked(model: str = "gemini-3.8-flash", **request: Any) -> dict[str, Any]:
    return sent(model, **request)[1]


def refused(**request: Any) -> str:
    with pytest.raises(AttemptFailed) as failed:
        asked(**request)
    assert (failed.value.code, failed.value.fate) == ("bad_request", "permanent")
    return failed.value.message


def reply(*parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> bytes:
    return orjson.dumps({"candidates": [{"content": {"parts": parts}, "finishReason": finish}], **more})


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.8-flash", "/v1/models/gemini-3.8-flash:generateContent"),
        ("models/gemini-3.8-flash", "/v1/models/gemini-3.8-flash:generateContent"),
        ("../x?key=1", "/v1/models/..%2Fx%3Fkey%3D1:generateContent"),
    ],
)
def test_the_model_is_in_the_path_and_cannot_leave_it(model: str, path: str) -> None:
    """A name is one segment, whatever is in it."""
    assert sent(model)[0] == path
    assert sent(model, stream=True)[0] == path.replace("generate", "streamGenerate") + "?alt=sse"


def test_parameters_have_geminis_names() -> None:
    """What was asked for, and nothing else."""
    body = asked(temperature=0.2, max_tokens=50, stop=["x"])
    assert body["generationConfig"] == {"temperature": 0.2, "maxOutputTokens": 50, "stopSequences": ["x"]}


def test_instructions_stand_apart_and_the_assistant_is_the_model() -> None:
    """System and developer messages are parts of the instruction."""
    body = asked(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": "Be kind."},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]


def test_images_are_translated_and_other_parts_pass() -> None:
    """Data goes inline, an address as a file; a part in Gemini's own words goes as it is."""
    own = {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1/files/x"}}
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg?x=1"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a"}},
        own,
    ]
    assert asked(messages=[{"role": "user", "content": parts}])["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"fileUri": "https://example.org/a.jpg?x=1", "mimeType": "image/jpeg"}},
        {"fileData": {"fileUri": "https://example.org/a"}},
        own,
    ]


def test_a_part_there_are_no_words_for_is_refused() -> None:
    """Before anything is sent, by its type."""
    assert "input_audio" in refused(messages=[{"role": "user", "content": [{"type": "input_audio"}]}])


def test_tools_are_translated() -> None:
    assert asked(tools=[TOOL])["tools"] == [
        {"functionDeclarations": [{"name": "look", "description": "See.", "parametersJsonSchema": SCHEMA}]}
    ]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "look"}},
            {"mode": "ANY", "allowedFunctionNames": ["look"]},
        ),
    ],
)
def test_the_choice_of_a_tool_is_translated(choice: Any, calling: dict[str, Any]) -> None:
    assert asked(tools=[TOOL], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": calling}


def test_answers_of_tools_called_together_are_one_turn() -> None:
    """Each with its function's name, and an object even where the tool said plain text."""
    other = {"id": "2", "type": "function", "function": {"name": "hear", "arguments": ""}}
    turns = asked(
        messages=[
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, other]},
            {"role": "tool", "tool_call_id": "1", "content": '{"seen": 3}'},
            {"role": "tool", "tool_call_id": "2", "content": "a bell"},
            {"role": "user", "content": "well?"},
        ]
    )["contents"]
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "user"]
    assert [part["functionResponse"] for part in turns[2]["parts"]] == [
        {"id": "1", "name": "look", "response": {"seen": 3}},
        {"id": "2", "name": "hear", "response": {"result": "a bell"}},
    ]


def test_the_answer_to_a_call_nobody_made_is_refused() -> None:
    """The API wants the function's name, and only the call has it."""
    told = [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "9", "content": "b"}]
    assert "call 9" in refused(messages=told)


@pytest.mark.parametrize(
    ("model", "extra", "signature"),
    [
        ("gemini-3.8-flash", {"google": {"thought_signature": "s"}}, "s"),
        ("gemini-3.8-flash", {}, wire.NO_SIGNATURE),
        ("gemini-3.8-flash", {"anthropic": {"thinking": []}}, wire.NO_SIGNATURE),
        ("gemini-2.5-flash", {}, None),
    ],
)
def test_a_call_goes_back_signed(model: str, extra: dict[str, Any], signature: str | None) -> None:
    """Later models refuse a call without its signature; what stands for one is sent for calls another model made."""
    told = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{**CALL, "extra_content": extra}]}]
    (part,) = asked(model, messages=told)["contents"][1]["parts"]
    assert part.get("thoughtSignature") == signature
    assert part["functionCall"] == {"id": "1", "name": "look", "args": {"a": "b"}}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-3.8-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.8-flash", "medium", {"thinkingLevel": "MEDIUM"}),
        ("gemini-3.8-flash", "max", {"thinkingLevel": "XHIGH"}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}),
        ("gemini-4-argon", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "xhigh", {"thinkingBudget": 24_576}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 512}),
        ("gemini-2.0-flash", "high", None),
    ],
)
def test_effort_is_said_as_each_model_takes_it(model: str, effort: str, thinking: dict[str, Any] | None) -> None:
    """A level, a budget, or nothing where a model does not think."""
    assert asked(model, reasoning_effort=effort).get("generationConfig", {}).get("thinkingConfig") == thinking


@pytest.mark.parametrize(("model", "native"), [("gemini-3.8-flash", True), ("gemini-2.5-flash", False)])
def test_json_beside_tools_is_instructed_where_it_is_refused(model: str, native: bool) -> None:
    """Models before version 3 take one or the other."""
    body = asked(model, tools=[TOOL], response_format=SCHEMA)
    assert ("generationConfig" in body) == native
    assert ("systemInstruction" in body) != native


@pytest.mark.parametrize(
    ("finish", "mapped"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("ODD", "other"), (None, "other")],
)
def test_endings_are_mapped_to_the_one_set(finish: str | None, mapped: str) -> None:
    assert wire.parse_reply(reply({"text": "hi"}, finish=finish)).finish_reason == mapped


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_reply"),
        (b"{}", "bad_reply"),
        (b'{"candidates": []}', "bad_reply"),
        (b'{"promptFeedback": {"blockReason": "SAFETY"}}', "blocked"),
        (reply(), "bad_reply"),
        (reply(finish="MALFORMED_FUNCTION_CALL"), "bad_reply"),
        (reply(finish="MAX_TOKENS"), "truncated"),
        (reply(finish="PROHIBITED_CONTENT"), "blocked"),
        (reply({"text": "hm", "thought": True}, finish="MAX_TOKENS"), "truncated"),
    ],
)
def test_a_reply_without_text_is_a_failure_that_is_not_retried(body: bytes, code: str) -> None:
    """What the model thought is no reply."""
    with pytest.raises(AttemptFailed) as failed:
        wire.parse_reply(body)
    assert (failed.value.code, failed.value.fate) == (code, "permanent")


def test_calls_without_ids_get_some() -> None:
    """Earlier models give none; the one form needs them."""
    made = wire.parse_reply(reply({"functionCall": {"name": "a"}}, {"functionCall": {"name": "b", "args": {"x": 1}}}))
    assert [(call["id"], call["function"]["arguments"]) for call in made.tool_calls] == [
        ("call_1", "{}"),
        ("call_2", '{"x":1}'),
    ]


def test_arguments_nested_without_end_are_a_bad_reply() -> None:
    """They could not be written down."""
    body = reply({"functionCall": {"name": "look", "args": 7}}).replace(b'"args":7', b'"args":' + deep_json())
    with pytest.raises(AttemptFailed) as failed:
        wire.parse_reply(body)
    assert failed.value.code == "bad_reply"


def deep_json() -> bytes:
    return b'{"x":' * 500 + b"1" + b"}" * 500


@pytest.mark.parametrize(
    ("error", "code", "fate", "wait"),
    [
        ({"details": [{"retryDelay": "46.5s"}]}, "rate_limited", "refused", 46.5),
        ({"details": [{"retryDelay": "36000s"}]}, "quota", "permanent", None),
        ({"details": [{"violations": [{"quotaId": "RequestsPerMinute"}]}]}, "rate_limited", "refused", None),
        ({"details": [{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}]}, "quota", "permanent", None),
        ({"message": "Quota exceeded, limit: 0, model: x"}, "quota", "permanent", None),
        ({"message": "Quota exceeded, limit: 05"}, "rate_limited", "refused", None),
        ({"message": "Your project has exceeded its monthly spending cap."}, "quota", "permanent", None),
        ({"details": [{"reason": "BILLING_DISABLED"}]}, "quota", "permanent", None),
    ],
)
def test_a_429_is_not_one_thing(error: dict[str, Any], code: str, fate: str, wait: float | None) -> None:
    """The minute's quota passes; the day's, a limit of nothing and a spending cap do not."""
    for body in ({"error": error}, [{"error": error}]):  # a stream that fails at once has a list
        failure = wire.parse_error(429, {}, orjson.dumps(body), 0.0)
        assert (failure.code, failure.fate, failure.retry_after) == (code, fate, wait)


@pytest.mark.parametrize(
    ("details", "rest"),
    [
        ([{"retryDelay": "36000s"}], 36000.0),
        ([{"violations": [{"quotaId": "RequestsPerDay"}]}, {"retryDelay": "36000s"}], 36000.0),
        ([{"violations": [{"quotaId": "RequestsPerDay"}]}, {"retryDelay": "46s"}], None),
        ([{"violations": [{"quotaId": "RequestsPerDay"}]}], None),
    ],
)
def test_a_key_rests_as_long_as_a_used_up_day_is_said_to_last(details: list[Any], rest: float | None) -> None:
    """Hours are believed; a minute is the wait of the minute's quota, and is not."""
    failure = wire.parse_error(429, {}, orjson.dumps({"error": {"details": details}}), 0.0)
    assert (failure.code, failure.details.get("tryAgainIn")) == ("quota", rest)


def events(*documents: Any) -> list[ServerEvent]:
    return [ServerEvent("message", orjson.dumps(document).decode()) for document in documents]


def test_the_bill_may_come_after_the_end() -> None:
    """A stream is done when both are there, and whole when its end is."""
    first, end, bill = events(
        {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]},
        {"candidates": [{"finishReason": "STOP"}]},
        {"usageMetadata": {"promptTokenCount": 3}},
    )
    stream = wire.open_stream()
    stream.feed(first)
    stream.feed(end)
    assert not stream.done
    assert stream.close().content == "hi"
    stream.feed(bill)
    assert stream.done
    assert stream.close().usage == Usage(input_tokens=3)


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"<html>Bad Gateway", "Bad Gateway"), (b'{"message": "no route"}', "no route"), (b'{"error": "down"}', "down")],
)
def test_what_stands_before_the_provider_is_understood_too(body: bytes, said: str) -> None:
    """A proxy's error has another form; its words are told all the same."""
    failure = wire.parse_error(502, {}, body, 0.0)
    assert (failure.code, failure.fate) == ("server", "ambiguous")
    assert said in failure.message


@given(json_values)
def test_no_json_breaks_the_reader(document: Any) -> None:
    """Whatever JSON comes as a reply or as an error, it is judged and not tripped over."""
    body = orjson.dumps(document)
    assert wire.parse_error(500, {}, body, 0.0).fate in {"ambiguous", "permanent"}
    assert wire.parse_error(429, {}, body, 0.0).code in {"rate_limited", "quota", "auth"}
    try:
        made = wire.parse_reply(body)
    except AttemptFailed:
        return
    assert made.content or made.tool_calls


@given(st.lists(json_values, max_size=6))
def test_no_events_break_the_stream(documents: list[Any]) -> None:
    """Whatever events come, the end of it is a reply or an AttemptFailed."""
    stream = wire.open_stream()
    try:
        for event in events(*documents):
            stream.feed(event)
        made = stream.close()
    except AttemptFailed:
        return
    assert made.content or made.tool_calls
