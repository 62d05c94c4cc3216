"""Who is asked next, and what other names stand for."""

from __future__ import annotations

import pytest

from pop_actors.core.fallback import (
    BUILT_IN_ALIASES,
    Choice,
    alias_faults,
    chain,
    choice_from,
    falls_back,
    real_name,
    share_of,
)
from pop_actors.errors import CallFailed


def test_a_choice_is_a_provider_and_perhaps_a_model() -> None:
    """What stands after the first colon is the model, colons and all."""
    assert choice_from("openai:gpt-5") == Choice("openai", "gpt-5")
    assert choice_from("openai") == Choice("openai", None)
    assert choice_from("ollama:llama3:8b") == Choice("ollama", "llama3:8b")
    for wrong in ("", ":gpt-5", "openai:"):
        with pytest.raises(CallFailed, match="provider:model"):
            choice_from(wrong)


def test_an_alias_is_followed_to_its_end() -> None:
    """Through aliases of the settings and built-in ones, which give way; another name stands for itself."""
    aliases = {"a:x": "b:y", "b:y": "anthropic:sonnet-4-5", "anthropic:opus": "anthropic:mine"}
    assert real_name(Choice("a", "x"), aliases) == Choice("anthropic", "claude-sonnet-4-5")
    assert real_name(Choice("anthropic", "opus"), aliases) == Choice("anthropic", "mine")
    assert real_name(Choice("a", "z"), aliases) == Choice("a", "z")
    assert real_name(Choice("a", None), aliases) == Choice("a", None)


def test_the_built_in_aliases_lead_to_models() -> None:
    """None of them is malformed, circular, or an alias of an alias."""
    assert alias_faults(BUILT_IN_ALIASES) == []
    assert not set(BUILT_IN_ALIASES.values()) & set(BUILT_IN_ALIASES)


@pytest.mark.parametrize(
    ("aliases", "fault"),
    [({"fast": "openai:m"}, "'fast'"), ({"a:b": "m"}, "'m'"), ({"a:b": "c:d", "c:d": "a:b"}, "leads back"),
     ({"a:b": "a:b"}, "leads back")],
)  # fmt: skip
def test_wrong_aliases_are_named(aliases: dict[str, str], fault: str) -> None:
    """Each fault says which name it is about; a circle is found."""
    assert any(fault in said for said in alias_faults(aliases))


@pytest.mark.parametrize(
    ("code", "goes_on"),
    [("rate_limited", True), ("overloaded", True), ("server", True), ("timeout", True), ("connect", True),
     ("circuit_open", True), ("auth", True), ("quota", True), ("no_key", True), ("unknown_provider", True),
     ("bad_request", True), ("bad_reply", True), ("cancelled", False), ("queue_full", False), ("disk_full", False),
     ("journal", False), ("budget", False)],
)  # fmt: skip
def test_another_is_asked_where_it_may_help(code: str, goes_on: bool) -> None:
    """Not where the trouble is ours, and never once the call was billed."""
    assert falls_back(CallFailed(code, ""), billed=False) is goes_on
    assert not falls_back(CallFailed(code, ""), billed=True)


def test_a_providers_own_budget_leads_to_the_next_provider() -> None:
    """The job's and everything's do not."""
    for code in ("budget", "budget_paused"):
        assert falls_back(CallFailed(code, "", {"scope": "provider"}), billed=False)
        assert not falls_back(CallFailed(code, "", {"scope": "global"}), billed=False)


def test_nobody_is_asked_twice_and_everybody_has_time() -> None:
    """The chain has each choice once; time is shared by those who are left."""
    first, second = Choice("a", "x"), Choice("b", "y")
    assert chain(first, [second, first, second]) == (first, second)
    assert share_of(60.0, 2) == 20.0
