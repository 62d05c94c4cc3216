"""A call as the gateway sees it: the request parsed once, provider and model settled, and its key in the journal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from pop_actors.core.chat import ChatReply, ChatRequest, Usage
from pop_actors.core.messages import Chat
from pop_actors.errors import CallFailed
from pop_actors.providers.catalogue import default_model, kind_of
from pop_actors.providers.types import AttemptFailed, ProviderReply


@dataclass(frozen=True, slots=True)
class Defaults:
    """Who answers where nobody is named. `kinds`: the configured kind by provider name."""

    provider: str
    model: str | None
    kinds: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Call:
    """`key` is the journal's; `size` is the request's bytes; `identity` opens every record of the journal."""

    job_id: str
    request: ChatRequest
    provider: str
    model: str
    key: str
    size: int
    identity: dict[str, Any]

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from every other call: keys are told apart within a job."""
        return self.job_id, self.key


def resolve(chat: Chat, defaults: Defaults) -> Call:
    """The call a message asks for. CallFailed bad_request or unknown_provider."""
    try:
        request = ChatRequest.model_validate(chat.request)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise CallFailed("bad_request", f"not a chat request: {where}: {fault['msg']}") from None
    provider = request.provider or defaults.provider
    model = request.model or _default_model(provider, defaults)
    canonical = request.model_dump(mode="json", by_alias=True, exclude_none=True) | {
        "provider": provider,
        "model": model,
    }
    try:
        content = orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise CallFailed("bad_request", f"not a chat request: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    place = [chat.task, chat.attempt, chat.stage, chat.round, chat.ordinal]
    key = hashlib.sha256(orjson.dumps([chat.run_id, *place, digest])).hexdigest()
    identity = {
        "key": key,
        "runId": chat.run_id,
        "task": chat.task,
        "attempt": chat.attempt,
        "stage": chat.stage,
        "round": chat.round,
        "ordinal": chat.ordinal,
        "requestSha256": digest,
        "provider": provider,
        "model": model,
    }
    return Call(chat.job_id, request, provider, model, key, len(content), identity)


def _default_model(provider: str, defaults: Defaults) -> str:
    if provider == defaults.provider and defaults.model is not None:
        return defaults.model
    kind = kind_of(provider, defaults.kinds.get(provider))
    model = None if kind is None else default_model(provider, kind)
    if model is not None:
        return model
    if kind is None:
        return ""  # opening the provider refuses it, and says which there are
    raise CallFailed("bad_request", f"provider {provider} has no default model: name one in the call or the pipeline")


def sent_record(call: Call, attempt: int, at: str) -> dict[str, Any]:
    """Before the bytes leave. `try` counts the requests made for this call, from 1."""
    return {"type": "sent", **call.identity, "try": attempt, "at": at}


def paid_record(call: Call, reply: ProviderReply, at: str) -> dict[str, Any]:
    document = reply_document(call, reply)
    return {
        "type": "paid",
        **call.identity,
        "reply": document,
        "usage": document["usage"],
        "costUsd": reply.cost_usd,
        "at": at,
    }


def failed_record(call: Call, failure: AttemptFailed, told: str, at: str) -> dict[str, Any]:
    """With `usage` and `costUsd` where the failure was billed: such a call is settled, and is not made again."""
    error = {"code": failure.code, "message": told}
    billed: dict[str, Any] = {}
    if failure.usage is not None:
        billed = {"usage": usage_document(failure.usage), "costUsd": failure.cost_usd}
    return {"type": "failed", **call.identity, "error": error, **billed, "at": at}


def reply_document(call: Call, reply: ProviderReply) -> dict[str, Any]:
    """The document of a `ChatReply`; written out, since a big reply need not be validated again."""
    return {
        "content": reply.content,
        "usage": usage_document(reply.usage),
        "costUsd": reply.cost_usd,
        "provider": call.provider,
        "model": call.model,
        "finishReason": reply.finish_reason,
        "replayed": False,
    }


def usage_document(usage: Usage) -> dict[str, int]:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedTokens": usage.cached_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }


def replay(record: dict[str, Any]) -> dict[str, Any]:
    """What a settled record says again: the reply's document, or its CallFailed."""
    if record["type"] == "failed":
        error = record["error"]
        raise CallFailed(str(error["code"]), str(error["message"]))
    reply = ChatReply.model_validate(record["reply"])
    return reply.model_copy(update={"replayed": True}).model_dump(mode="json", by_alias=True)
