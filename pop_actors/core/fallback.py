"""Who is asked when the first choice gives no reply, and what a model's other names stand for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pop_actors.errors import CallFailed

BUILT_IN_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "anthropic:opus": "anthropic:claude-opus-5-5",
        "anthropic:sonnet": "anthropic:claude-sonnet-5-5",
        "anthropic:haiku": "anthropic:claude-haiku-5-5",
        "anthropic:opus-5-5": "anthropic:claude-opus-5-5",
        "anthropic:opus-5": "anthropic:claude-opus-5",
        "anthropic:opus-4-8": "anthropic:claude-opus-4-8",
        "anthropic:opus-4-5": "anthropic:claude-opus-4-5",
        "anthropic:opus-4-1": "anthropic:claude-opus-4-1",
        "anthropic:sonnet-5-5": "anthropic:claude-sonnet-5-5",
        "anthropic:sonnet-5": "anthropic:claude-sonnet-5",
        "anthropic:sonnet-4-6": "anthropic:claude-sonnet-4-6",
        "anthropic:sonnet-4-5": "anthropic:claude-sonnet-4-5",
        "anthropic:haiku-5-5": "anthropic:claude-haiku-5-5",
        "anthropic:haiku-4-5": "anthropic:claude-haiku-4-5",
        "gemini:pro": "gemini:gemini-3.1-pro-preview",
        "gemini:flash": "gemini:gemini-3.8-flash",
        "gemini:flash-lite": "gemini:gemini-3.5-flash-lite",
        "deepseek:flash": "deepseek:deepseek-v4-flash",
        "deepseek:pro": "deepseek:deepseek-v4-pro",
        "moonshot:k3": "moonshot:kimi-k3",
    }
)

# These end a call: it was billed, or nobody waits for it, or the trouble is ours and would be the same elsewhere.
_ENDS_THE_CALL = frozenset({"cancelled", "journal", "disk_full", "internal", "queue_full", "budget", "budget_paused"})


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider and its model; model None: the provider's default."""

    provider: str
    model: str | None


def choice_from(text: str) -> Choice:
    """The choice `provider:model` or `provider` stands for. CallFailed bad_request for another text."""
    provider, colon, model = text.partition(":")
    if not provider or (colon and not model):
        raise CallFailed("bad_request", f"{text!r} is no fallback; write provider:model, or provider for its default")
    return Choice(provider, model or None)


def real_name(choice: Choice, aliases: Mapping[str, str]) -> Choice:
    """The choice behind an alias, followed to its end; settings' aliases come before the built-in ones."""
    seen = set()
    while choice.model is not None:
        name = f"{choice.provider}:{choice.model}"
        target = aliases.get(name) or BUILT_IN_ALIASES.get(name)
        if target is None or name in seen:
            break
        seen.add(name)
        choice = choice_from(target)
    return choice


def alias_faults(aliases: Mapping[str, str]) -> list[str]:
    """What is wrong with the aliases of the settings: not `provider:model` on both sides, or a circle."""
    faults = []
    for name, target in aliases.items():
        for text in (name, target):
            provider, _, model = text.partition(":")
            if not provider or not model:
                faults.append(f"{text!r} must be provider:model")
        seen, step = {name}, target
        while step in aliases and step not in seen:
            seen.add(step)
            step = aliases[step]
        if step in seen:
            faults.append(f"{name!r} leads back to itself")
    return faults


def falls_back(failure: CallFailed, *, billed: bool) -> bool:
    """Whether the next choice is asked after this failure. A failure that was billed is the call's end: asking another
    would pay for it twice."""
    if billed:
        return False
    if failure.code in {"budget", "budget_paused"}:
        return failure.details.get("scope") == "provider"
    return failure.code not in _ENDS_THE_CALL


def share_of(remaining: float, left: int) -> float:
    """Seconds one choice may take of what remains when `left` others could follow: an equal part, so that one that is
    silent leaves time for the next."""
    return remaining / (left + 1)


def name_all(failure: CallFailed, before: list[dict[str, str]]) -> None:
    """The last failure says whom else was asked in vain, and why: {provider, model, code, message} of each."""
    if before:
        failure.details["before"] = before
        failure.message = f"{failure.message}; before that, {'; '.join(one['message'] for one in before)}"
        failure.args = (failure.message,)


def chain(first: Choice, fallback: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices in order, each once."""
    return tuple(dict.fromkeys((first, *fallback)))
