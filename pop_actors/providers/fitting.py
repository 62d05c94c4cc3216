"""Brings a request to what the model is known to take, before anything is sent. Pure.

Levels of effort are brought to the nearest the model has. A parameter it refuses is left out and named, or refused: a
pipeline that sets a temperature for all its models goes on when one of them takes none; a call that asks for one itself
hears that it cannot have it.
"""

from __future__ import annotations

from collections.abc import Container

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.models import ModelFacts
from pop_actors.providers.types import AttemptFailed

DROPPED = ("temperature", "stop", "reasoning_effort")
FIXED_TEMPERATURE = 1  # of every model that takes no other


def fit(
    request: ChatRequest, model: str, vendor: Vendor, *, drop: bool, asked: Container[str] = ()
) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request as the model takes it, and what was left out of it, each as a sentence's beginning.

    AttemptFailed bad_request for an image the model cannot see; for what it is known to refuse, if it is among `asked`
    (parameters that are not to be dropped silently); and for all that would be left out, if nothing is to be dropped.
    """
    facts = vendor.model(model)
    if not facts.images and _has_image(request):
        raise AttemptFailed("bad_request", f"{model} takes no images; ask a model that does", "permanent")
    changes: dict[str, object] = {}
    left_out: dict[str, str] = {}
    unheeded: set[str] = set()  # what the vendor would take all the same, or may take
    if request.reasoning_effort is not None:
        changes["reasoning_effort"] = level = facts.level(request.reasoning_effort)
        if level is None:
            left_out["reasoning_effort"] = "reasoning_effort (it takes none)"
        elif request.reasoning_effort == "none" != level:
            left_out["reasoning_effort"] = f"reasoning_effort none (it always thinks, at least at {level})"
    if request.temperature is not None and not _takes_temperature(facts, request):
        changes["temperature"] = None
        if request.temperature != FIXED_TEMPERATURE:
            left_out["temperature"] = _WHY_NO_TEMPERATURE[facts.temperature]
            if not _refuses_temperature(facts, request):
                unheeded.add("temperature")
    if request.stop and not facts.stop:
        changes["stop"] = None
        left_out["stop"] = "stop (it takes none)"
    _refuse([what for name, what in left_out.items() if name in asked and name not in unheeded], model, _ASKED)
    if not drop:
        _refuse(list(left_out.values()), model, _NOTHING_IS_DROPPED)
    return request.model_copy(update=changes) if changes else request, tuple(left_out.values())


_ASKED = "leave it out of the call; what a task's config or a pipeline sets is left out by itself"
_NOTHING_IS_DROPPED = "leave it out, or have drop_unsupported = true do it"


def _refuse(what: list[str], model: str, remedy: str) -> None:
    if what:
        raise AttemptFailed("bad_request", f"{model} does not take {', '.join(what)}: {remedy}", "permanent")


_WHY_NO_TEMPERATURE = {
    "refused": "temperature (its own is fixed)",
    "effort none": "temperature (only with reasoning_effort none)",
    "thoughtless": "temperature (not heeded while it thinks; only with reasoning_effort none)",
    "taken": "",
}


def _takes_temperature(facts: ModelFacts, request: ChatRequest) -> bool:
    if facts.temperature in {"effort none", "thoughtless"}:
        return request.reasoning_effort == "none"
    return facts.temperature == "taken"


def _refuses_temperature(facts: ModelFacts, request: ChatRequest) -> bool:
    """Known for sure: which effort a model has where none is named is its vendor's to change."""
    if facts.temperature == "effort none":
        return request.reasoning_effort not in {None, "none"}
    return facts.temperature == "refused"


def _has_image(request: ChatRequest) -> bool:
    return any(
        part.get("type") == "image_url"
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
    )
