"""A call as the gateway sees it: the request parsed once, provider and model settled, and its key in the journal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from pydantic import ValidationError

from pop_actors.core.chat import ChatReply, ChatRequest, Usage
from pop_actors.core.fallback import Choice, chain, choice_from, real_name
from pop_actors.core.messages import Chat
from pop_actors.core.observations import CallPlace
from pop_actors.core.provider_names import owner_of
from pop_actors.errors import CallFailed
from pop_actors.providers.catalogue import default_model, kind_of
from pop_actors.providers.types import AttemptFailed, ProviderReply


@dataclass(frozen=True, slots=True)
class Defaults:
    """Who answers where nobody is named. `kinds`: the configured kind by provider name. `aliases`: those of the
    settings."""

    provider: str
    model: str | None
    kinds: dict[str, str | None]
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """`key` is the journal's; `size` is the request's bytes; `identity` opens every record of the journal.

    `provider` and `model` are who is asked, by their real names; `others` who is asked after that, in this order. The
    key is made of the names the task used, so that another alias or fallback makes it no other call. `configured` as
    the Chat's.
    """

    job_id: str
    request: ChatRequest
    provider: str
    model: str
    key: str
    size: int
    identity: dict[str, Any]
    pipeline: str = ""
    priority: int = 0
    budget_usd: float | None = None
    others: tuple[Choice, ...] = ()
    configured: tuple[str, ...] = ()

    @property
    def whose(self) -> CallPlace:
        """The stage that makes it."""
        said = self.identity
        return CallPlace(self.job_id, said["runId"], said["task"], said["attempt"], said["stage"], said["round"])

    @property
    def turns(self) -> tuple[Call, ...]:
        """The same call, asked of each choice in order."""
        return self, *(self._asked_of(choice) for choice in self.others)

    def _asked_of(self, choice: Choice) -> Call:
        provider, model = choice.provider, choice.model or ""
        identity = {**self.identity, "provider": provider, "model": model}
        return replace(self, provider=provider, model=model, identity=identity, others=())


def resolve(chat: Chat, defaults: Defaults) -> Call:
    """The call a message asks for. CallFailed bad_request or unknown_provider."""
    try:
        request = ChatRequest.model_validate(chat.request)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise CallFailed("bad_request", f"not a chat request: {where}: {fault['msg']}") from None
    provider, named = _whose(request, defaults)
    model = named or _default_model(provider, defaults)
    content = _canonical(request, provider, model)
    digest = hashlib.sha256(content).hexdigest()
    first, *others = _choices(Choice(provider, model), chat.fallback, defaults)
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
        "provider": first.provider,
        "model": first.model,
    }
    return Call(
        chat.job_id, request, first.provider, first.model or "", key, len(content), identity,
        chat.pipeline, chat.priority, chat.budget_usd, tuple(others), chat.configured,
    )  # fmt: skip


def _whose(request: ChatRequest, defaults: Defaults) -> tuple[str, str | None]:
    """Provider and model; where no provider is named, the model's name may say it: `anthropic:sonnet-4-5`."""
    owner = None
    if request.model is not None:
        owner = owner_of(request.model) or owner_of(request.model, defaults.kinds)
    if owner is not None and request.provider in {None, owner[0]}:
        return owner
    return request.provider or defaults.provider, request.model


def _canonical(request: ChatRequest, provider: str, model: str) -> bytes:
    """The request as bytes, the same for the same request. CallFailed bad_request where it is no JSON."""
    document = request.document() | {"provider": provider, "model": model}
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise CallFailed("bad_request", f"not a chat request: {error}") from None


def _choices(first: Choice, fallback: tuple[str, ...], defaults: Defaults) -> tuple[Choice, ...]:
    wishes = [first, *map(choice_from, fallback)]
    full = [
        real_name(
            Choice(wish.provider, _default_model(wish.provider, defaults) if wish.model is None else wish.model),
            defaults.aliases,
        )
        for wish in wishes
    ]
    return chain(full[0], full[1:])


def cache_key(call: Call) -> str:
    """What the response cache knows the request by: everything the provider is told, and who it is."""
    return hashlib.sha256(_canonical(call.request, call.provider, call.model)).hexdigest()


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


def cached_record(call: Call, document: dict[str, Any], at: str) -> dict[str, Any]:
    """A reply from the response cache: nothing was used and nothing paid. The reply itself says what it took once."""
    reply = {**document, "costUsd": 0.0, "replayed": True, "cached": True}
    return {
        "type": "paid",
        **call.identity,
        "reply": reply,
        "usage": usage_document(Usage()),
        "costUsd": 0.0,
        "cached": True,
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
        "toolCalls": list(reply.tool_calls),
    }


def usage_document(usage: Usage) -> dict[str, int]:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedTokens": usage.cached_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cacheWriteTokens": usage.cache_write_tokens,
    }


def replay(record: dict[str, Any]) -> dict[str, Any]:
    """What a settled record says again: the reply's document, or its CallFailed."""
    if record["type"] == "failed":
        error = record["error"]
        raise CallFailed(str(error["code"]), str(error["message"]), {"billed": True})
    ChatReply.model_validate(record["reply"])  # it may have been damaged since
    return {**record["reply"], "replayed": True}
