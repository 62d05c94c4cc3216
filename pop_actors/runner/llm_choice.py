"""Who is asked, and how: the wishes of a call, a task's config and the pipeline, settled to one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pop_actors.core.chat import EFFORTS
from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.provider_names import owner_of


@dataclass(frozen=True, slots=True)
class Choice:
    """What one level (call, task config, pipeline) wishes for."""

    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    fallback: tuple[str, ...] | None = None

    def left_open(self, settled: Choice) -> tuple[str, ...]:
        """The parameters it does not ask for itself, and that the settled choice has from a weaker level."""
        return tuple(
            name
            for name in ("temperature", "max_tokens", "reasoning_effort")
            if getattr(self, name) is None and getattr(settled, name) is not None
        )


def choice_of_config(config: Mapping[str, Any]) -> Choice:
    """What a task's config says of calls; what is not of the right type is left out."""
    llm = config.get("llm")
    table = {**llm, **config} if isinstance(llm, Mapping) else config
    provider, model = table.get("provider"), table.get("model")
    temperature = table.get("temperature")
    max_tokens = table.get("maxTokens", table.get("max_tokens"))
    effort = table.get("reasoningEffort", table.get("reasoning_effort"))
    return Choice(
        provider if isinstance(provider, str) else None,
        model if isinstance(model, str) else None,
        float(temperature) if isinstance(temperature, int | float) and not isinstance(temperature, bool) else None,
        max_tokens if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) else None,
        effort if isinstance(effort, str) and effort in EFFORTS else None,
        _names(table.get("fallback")),
    )


def override_of(config: Mapping[str, Any], pipeline: LlmOverride) -> LlmOverride:
    """The override that holds for a task: that of its own config as a whole, else the pipeline's."""
    own = config.get("llmOverride")
    if not isinstance(own, Mapping):
        return pipeline
    choice = choice_of_config({name: own.get(name) for name in ("provider", "model", "fallback")})
    return LlmOverride(provider=choice.provider, model=choice.model, fallback=choice.fallback)


def settle(levels: Sequence[Choice], override: LlmOverride) -> Choice:
    """One choice out of the levels, the strongest first; the override beats them all.

    A model named `anthropic:sonnet-4-5` names its provider too. A model counts only for the provider its own level
    means: a wish for another provider does not take along a weaker level's model. An override has its own fallback or
    none: what is overridden is not asked by the back door.
    """
    strongest = _owned(Choice(override.provider, override.model))
    ranked = [strongest, *map(_owned, levels)]
    provider = _first(level.provider for level in ranked)
    model = None
    for index, level in enumerate(ranked):
        meant = _first(weaker.provider for weaker in ranked[index:])
        if level.model is not None and (level is strongest or meant in {provider, None}):
            model = level.model
            break
    return Choice(
        provider,
        model,
        _first(level.temperature for level in levels),
        _first(level.max_tokens for level in levels),
        _first(level.reasoning_effort for level in levels),
        _fallback(levels, override),
    )


def _owned(choice: Choice) -> Choice:
    """The choice, with the provider its model's name says where it names none itself."""
    owner = owner_of(choice.model) if choice.provider is None and choice.model is not None else None
    return choice if owner is None else replace(choice, provider=owner[0], model=owner[1])


def _fallback(levels: Sequence[Choice], override: LlmOverride) -> tuple[str, ...] | None:
    if override.provider is not None or override.model is not None:
        return override.fallback
    return override.fallback or _first(level.fallback for level in levels)


def _names(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return tuple(name for name in value if isinstance(name, str))


def _first(values: Any) -> Any:
    return next((value for value in values if value is not None), None)
