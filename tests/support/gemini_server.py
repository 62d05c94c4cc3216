"""Gemini's generateContent on a real socket, scripted by the model's name; what every such server does: `wire_server`.

    usage_12_34      so many tokens of prompt and answer
    cached_5         and so many of the prompt's were cached
    thinks_9         it thinks first, in so many tokens beside the answer's
    calls            it calls the first function it was given
    truncated        the tokens run out while it thinks
    blocked          the prompt is blocked; unsafe: the answer is
    broken_1         a stream breaks with an error after so many events
    daily            429 for the quota of the day; nothing: for a limit of 0; minute: for the minute, with a RetryInfo
    badkey           400 API_KEY_INVALID
As a process: `python tests/support/gemini_server.py --port-file F [--port N]`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.extend(str(Path(__file__).resolve().parents[up]) for up in (1, 2))  # run as a file, it is not beside them

from pop_actors.providers.sample import sample
from support.wire_server import Answer, Received, WireServer, serve

_PATH = re.compile(r"/v1(?:beta)?/models/([^/:]+):(?:generateContent|streamGenerateContent\?alt=sse)")
_STATUS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
_QUOTA = {
    "daily": ("GenerateRequestsPerDayPerProjectPerModel", "7s", "You exceeded your current quota."),
    "nothing": ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "46s", "Quota exceeded, limit: 0, model: x"),
    "minute": ("GenerateRequestsPerMinutePerProjectPerModel", "46s", "Quota exceeded, limit: 10, model: x"),
}


class GeminiServer(WireServer):
    """A scripted POST /v1/models/MODEL:generateContent, and its streaming sister."""

    def model(self, path: str, body: dict[str, Any]) -> str | None:
        found = _PATH.fullmatch(path)
        return unquote(found[1]) if found else None

    def reply(self, call: Received) -> Answer:
        for word, (quota, delay, message) in _QUOTA.items():
            if word in call.script:
                return Answer(_quota_error(quota, delay, message), 429)
        if "badkey" in call.script:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            return Answer(_error(400, "API key not valid.", [info]), 400)
        document = _document(call)
        return Answer(events=_events(document, call)) if "streamGenerate" in call.path else Answer(document)

    def error(self, status: int, call: Received) -> dict[str, Any]:
        return _error(status, f"scripted {status} for {call.headers.get('x-goog-api-key')}", [])


def _error(code: int, message: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    status = _STATUS.get(code, "INTERNAL")
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def _quota_error(quota: str, delay: str, message: str) -> dict[str, Any]:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    return _error(429, message, [failure, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}])


def _document(call: Received) -> dict[str, Any]:
    usage = {
        "promptTokenCount": call.number("usage", 0, 12),
        "cachedContentTokenCount": call.number("cached"),
        "candidatesTokenCount": call.number("usage", 1, 34),
        "thoughtsTokenCount": call.number("thinks"),
    }
    usage["totalTokenCount"] = sum(usage.values()) - usage["cachedContentTokenCount"]
    if "blocked" in call.script:
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
    candidate: dict[str, Any] = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": []}}
    parts = candidate["content"]["parts"]
    if "thinks" in call.script:
        parts.append({"text": "so it is", "thought": True})
    if "truncated" in call.script:
        candidate["finishReason"] = "MAX_TOKENS"
    elif "unsafe" in call.script:
        candidate["finishReason"] = "SAFETY"
    elif "calls" in call.script:
        function = call.body["tools"][0]["functionDeclarations"][0]
        arguments = sample(function.get("parametersJsonSchema", {"type": "object"}), b"arguments")
        made = {"name": function["name"], "args": arguments, "id": "fc_1"}
        parts.append({"functionCall": made, "thoughtSignature": "c2lnbmVk"})
    else:
        parts.append({"text": _text(call)})
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}


def _text(call: Received) -> str:
    config = call.body.get("generationConfig", {})
    if config.get("responseMimeType") != "application/json":
        return f"reply to {call.sha256[:12]}"
    wanted = config.get("responseJsonSchema")
    return json.dumps(sample(wanted, call.sha256.encode()) if wanted else {"answer": call.sha256[:12]})


def _events(document: dict[str, Any], call: Received) -> list[str]:
    """A chunk for each part, text in halves; the last one has the end and the bill."""
    chunks: list[dict[str, Any]] = []
    for candidate in document.get("candidates", []):
        for part in candidate["content"]["parts"]:
            for piece in _halves(part):
                content = {"role": "model", "parts": [piece]}
                chunks.append({"candidates": [{"content": content}], "usageMetadata": {"promptTokenCount": 12}})
        chunks.append({**document, "candidates": [{"finishReason": candidate["finishReason"]}]})
    chunks = chunks or [document]
    if "broken" in call.script:
        chunks[call.number("broken") :] = [_error(503, "The model is overloaded.", [])]
    return [f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks]


def _halves(part: dict[str, Any]) -> list[dict[str, Any]]:
    if "text" not in part:
        return [part]
    middle = len(part["text"]) // 2
    return [{**part, "text": part["text"][:middle]}, {**part, "text": part["text"][middle:]}]


if __name__ == "__main__":
    serve(GeminiServer)
