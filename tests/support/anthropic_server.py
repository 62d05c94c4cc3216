"""Anthropic's messages on a real socket, scripted by the model's name; what every such server does: `wire_server`.

    usage_12_34      so many input tokens beside the cache, and output tokens
    cached_5         and so many were read from the cache; written_7: written to it
    thinks_9         it thinks first, in so many of the output tokens
    calls            it calls the first tool it was given
    truncated        the tokens run out while it thinks
    refusal          it begins, and then refuses
    overloaded_1     a stream breaks with an overloaded_error after so many events
    spent            429 enforced_spend_limit_reached; spent400: the same as a 400
As a process: `python tests/support/anthropic_server.py --port-file F [--port N]`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[up]) for up in (1, 2))  # run as a file, it is not beside them

from pop_actors.providers.sample import sample
from support.wire_server import Answer, Received, WireServer, serve

_ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip


class AnthropicServer(WireServer):
    """A scripted POST /v1/messages."""

    limit_header = "anthropic-ratelimit-requests-{what}"

    def model(self, path: str, body: dict[str, Any]) -> str | None:
        return str(body.get("model")) if path == "/v1/messages" else None

    def reply(self, call: Received) -> Answer:
        if "spent" in call.script or "spent400" in call.script:
            return _spent(call)
        if "max_tokens" not in call.body or "anthropic-version" not in call.headers:
            return Answer(_error("invalid_request_error", "max_tokens: Field required"), 400)
        message = _message(call)
        return Answer(events=_events(message, call)) if call.body.get("stream") else Answer(message)

    def error(self, status: int, call: Received) -> dict[str, Any]:
        return _error(_ERRORS.get(status, "api_error"), f"scripted {status} for {call.headers.get('x-api-key')}")


def _error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def _spent(call: Received) -> Answer:
    if "spent400" in call.script:
        return Answer(_error("invalid_request_error", "You have reached your specified API usage limits."), 400)
    details = {"error_code": "enforced_spend_limit_reached"}
    return Answer(_error("rate_limit_error", "This month's limit is reached.", details=details), 429)


def _message(call: Received) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if "thinks" in call.script or "truncated" in call.script:
        content.append({"type": "thinking", "thinking": "so it is", "signature": "c2lnbmVk"})
    stop = "end_turn"
    if "truncated" in call.script:
        stop = "max_tokens"
    elif "calls" in call.script:
        stop = "tool_use"
        tool = call.body["tools"][0]
        arguments = sample(tool["input_schema"], b"arguments")
        content.append({"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": arguments})
    else:
        content.append({"type": "text", "text": _text(call)})
    details = None
    if "refusal" in call.script:
        stop, details = "refusal", {"type": "refusal", "category": "cyber", "explanation": "It could do harm."}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": call.body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_details": details,
        "usage": {
            "input_tokens": call.number("usage", 0, 12),
            "output_tokens": call.number("usage", 1, 34),
            "cache_read_input_tokens": call.number("cached"),
            "cache_creation_input_tokens": call.number("written"),
            "output_tokens_details": {"thinking_tokens": call.number("thinks")},
        },
    }


def _text(call: Received) -> str:
    wanted = call.body.get("output_config", {}).get("format")
    if wanted is not None:
        return json.dumps(sample(wanted["schema"], call.sha256.encode()))
    system = json.dumps(call.body.get("system", ""))
    return json.dumps({"answer": call.sha256[:12]}) if "JSON" in system else f"reply to {call.sha256[:12]}"


def _events(message: dict[str, Any], call: Received) -> list[str]:
    usage = message["usage"]
    first = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    del first["usage"]["output_tokens_details"]
    documents: list[dict[str, Any]] = [{"type": "message_start", "message": first}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        documents += _block_events(index, block)
    details = {"stop_reason": message["stop_reason"], "stop_details": message["stop_details"]}
    told = {key: usage[key] for key in ("output_tokens", "output_tokens_details")}
    documents += [{"type": "message_delta", "delta": details, "usage": told}, {"type": "message_stop"}]
    if "overloaded" in call.script:
        documents[call.number("overloaded") :] = [_error("overloaded_error", "Overloaded")]
    return [f"event: {document['type']}\ndata: {json.dumps(document)}\n\n" for document in documents]


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]]
    match block["type"]:
        case "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            empty = {**block, "input": {}}
            pieces = _halves(json.dumps(block["input"]))
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
        case _:
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])]
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


if __name__ == "__main__":
    serve(AnthropicServer)
