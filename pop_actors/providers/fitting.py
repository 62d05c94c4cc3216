"""Brings a request to what the model is known to take, before anything is sent. Pure.

Levels of effort are brought to the nearest the model has. A parameter it refuses is left out and named, or refused: a
pipeline that sets a temperature for all its models goes on when one of them takes none.
"""

from __future__ import annotations

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.models import ModelFacts
from pop_actors.providers.types import AttemptFailed

FIXED_TEMPERATURE = 1  # of every model that takes no other


def fit(request: ChatRequest, model: str, vendor: Vendor, *, drop: bool) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request as the model takes it, and what was left out of it, each as a sentence's beginning.

    AttemptFailed bad_request for an image the model cannot see and, unless `drop`, for what would be left out.
    """
    facts = vendor.model(model)
    if not facts.images and _has_image(request):
        raise AttemptFailed("bad_request", f"{model} takes no images; ask a model that does", "permanent")
    changes: dict[str, object] = {}
    left_out = []
    if request.reasoning_effort is not None:
        changes["reasoning_effort"] = level = facts.level(request.reasoning_effort)
        if level is None:
            left_out.append("reasoning_effort (it takes none)")
        elif request.reasoning_effort == "none" != level:
            left_out.append(f"reasoning_effort none (it always thinks, at least at {level})")
    if request.temperature is not None and not _takes_temperature(facts, request):
        changes["temperature"] = None
        if request.temperature != FIXED_TEMPERATURE:
            left_out.append(_WHY_NO_TEMPERATURE[facts.temperature])
    if request.stop and not facts.stop:
        changes["stop"] = None
        left_out.append("stop (it takes none)")
    if left_out and not drop:
        raise AttemptFailed(
            "bad_request",
            f"{model} does not take {', '.join(left_out)}: leave it out, or have drop_unsupported = true do it",
            "permanent",
        )
    return request.model_copy(update=changes) if changes else request, tuple(left_out)


_WHY_NO_TEMPERATURE = {
    "refused": "temperature (its own is fixed)",
    "effort none": "temperature (only with reasoning_effort none)",
    "taken": "",
}


def _takes_temperature(facts: ModelFacts, request: ChatRequest) -> bool:
    if facts.temperature == "effort none":
        return request.reasoning_effort == "none"
    return facts.temperature == "taken"


def _has_image(request: ChatRequest) -> bool:
    return any(
        part.get("type") == "image_url"
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
    )
