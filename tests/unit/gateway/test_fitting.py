"""What a model is known to refuse is left out or refused before it costs a request; levels of effort fit the model."""

from __future__ import annotations

from typing import Any

import pytest

from pop_actors.core.chat import EFFORTS, ChatRequest
from pop_actors.providers import models
from pop_actors.providers.catalogue import COMPATIBLE, VENDORS
from pop_actors.providers.fitting import fit
from pop_actors.providers.types import AttemptFailed

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def request(**asked: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}], **asked})


@pytest.mark.parametrize(
    ("vendor", "model", "asked", "sent"),
    [
        ("openai", "gpt-5-nano", {"temperature": 0.5}, {}),
        ("openai", "gpt-5-nano-2025-08-07", {"temperature": 0.5, "stop": ["x"]}, {}),
        ("openai", "gpt-5-chat-latest", {"temperature": 0.5}, {"temperature": 0.5}),
        ("openai", "gpt-5.1", {"temperature": 0.5, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        (
            "openai",
            "gpt-5.2",
            {"temperature": 0.5, "reasoning_effort": "none"},
            {"temperature": 0.5, "reasoning_effort": "none"},
        ),
        ("openai", "o4-mini", {"temperature": 0.5, "stop": ["x"]}, {}),
        ("openai", "gpt-4.1", {"temperature": 0.5, "stop": ["x"]}, {"temperature": 0.5, "stop": ["x"]}),
        ("openai", "gpt-4.1", {"reasoning_effort": "low"}, {}),
        ("openai", "something-new", {"temperature": 0.5, "stop": ["x"]}, {"temperature": 0.5, "stop": ["x"]}),
        ("moonshot", "kimi-k3", {"temperature": 0.5, "stop": ["x"]}, {"stop": ["x"]}),
        ("moonshot", "moonshot-v1-8k", {"temperature": 0.5}, {"temperature": 0.5}),
        (
            "deepseek",
            "deepseek-v4-pro",
            {"temperature": 0.5, "reasoning_effort": "none"},
            {"temperature": 0.5, "reasoning_effort": "none"},
        ),
        ("zhipu", "glm-5.3", {"temperature": 0.5}, {"temperature": 0.5}),
    ],
)
def test_what_a_model_refuses_is_left_out(vendor: str, model: str, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    """And named; or, where that is not wanted or the call itself asked for it, it is refused with the same words."""
    made = request(**asked)
    fitted, left_out = fit(made, model, VENDORS[vendor], drop=True)
    assert fitted == request(**sent)
    dropped = asked.keys() - sent.keys()
    assert {what.split()[0] for what in left_out} == dropped
    for wanted in ({"drop": False}, {"drop": True, "asked": asked.keys()}):
        if dropped:
            with pytest.raises(AttemptFailed, match=model) as failed:
                fit(made, model, VENDORS[vendor], **wanted)
            assert (failed.value.code, failed.value.fate) == ("bad_request", "permanent")
            assert all(what in failed.value.message for what in dropped)
        else:
            assert fit(made, model, VENDORS[vendor], **wanted) == (made, ())


@pytest.mark.parametrize(("vendor", "model"), [("deepseek", "deepseek-v4-pro"), ("openai", "gpt-5.1")])
def test_what_is_not_surely_refused_is_left_out_of_a_call_too(vendor: str, model: str) -> None:
    """DeepSeek takes a temperature while it thinks, and does not heed it; which effort is the default is not ours."""
    made = request(temperature=0.5)
    fitted, left_out = fit(made, model, VENDORS[vendor], drop=True, asked=("temperature",))
    assert (fitted, [what.split()[0] for what in left_out]) == (request(), ["temperature"])
    with pytest.raises(AttemptFailed, match="does not take temperature"):
        fit(made, model, VENDORS[vendor], drop=False)


def test_what_is_asked_for_is_told_from_what_is_set() -> None:
    """The same model may lose its pipeline's temperature, and not the stop of the call."""
    made = request(temperature=0.5, stop=["x"])
    with pytest.raises(AttemptFailed, match="does not take stop") as failed:
        fit(made, "gpt-5-nano", VENDORS["openai"], drop=True, asked=("stop",))
    assert "temperature" not in failed.value.message


@pytest.mark.parametrize("model", ["gpt-5-nano", "gpt-5.1", "o3"])
def test_the_temperature_a_model_has_anyway_is_left_out_without_a_word(model: str) -> None:
    """1 is what they all have fixed: nothing is lost, so nothing is refused."""
    assert fit(request(temperature=1), model, VENDORS["openai"], drop=False) == (request(), ())


@pytest.mark.parametrize(
    ("vendor", "model", "levels"),
    [
        ("openai", "gpt-5-nano", "minimal minimal low medium high high high"),
        ("openai", "gpt-5-pro", "high high high high high high high"),
        ("openai", "gpt-5.1", "none low low medium high high high"),
        ("openai", "gpt-5.2", "none low low medium high xhigh xhigh"),
        ("openai", "gpt-6-sol", "none low low medium high xhigh max"),
        ("openai", "o3", "low low low medium high high high"),
        ("deepseek", "deepseek-v4-flash", "none low low high high max max"),
        ("moonshot", "kimi-k3.1-pro", "low low low high high max max"),
        ("moonshot", "kimi-k2.6", "none high high high high high high"),
        ("moonshot", "kimi-k2.7-code", "high high high high high high high"),
        ("zhipu", "glm-5.3", "low low low high high max max"),
        ("zhipu", "glm-4.6", "none high high high high high high"),
        ("openai", "something-new", "none minimal low medium high xhigh max"),
    ],
)
def test_an_effort_becomes_a_level_the_model_has(vendor: str, model: str, levels: str) -> None:
    """Itself, else the next above, else the highest there is."""
    fitted = [fit(request(reasoning_effort=asked), model, VENDORS[vendor], drop=True)[0] for asked in EFFORTS]
    assert [made.reasoning_effort for made in fitted] == levels.split()


def test_thinking_that_cannot_be_switched_off_is_said() -> None:
    """`none` is no weak level: who asks for it hears that the model thinks all the same."""
    assert fit(request(reasoning_effort="none"), "kimi-k3", VENDORS["moonshot"], drop=True)[1]
    with pytest.raises(AttemptFailed, match="always thinks"):
        fit(request(reasoning_effort="none"), "kimi-k3", VENDORS["moonshot"], drop=False)


@pytest.mark.parametrize("drop", [True, False])
def test_an_image_is_never_left_out(drop: bool) -> None:
    """A model that cannot see it would answer another question."""
    made = request(messages=[{"role": "user", "content": [IMAGE]}])
    assert fit(made, "gpt-5-nano", VENDORS["openai"], drop=drop) == (made, ())
    with pytest.raises(AttemptFailed, match="images"):
        fit(made, "deepseek-v4-pro", VENDORS["deepseek"], drop=drop)


def test_an_endpoint_nobody_knows_is_sent_what_was_asked() -> None:
    """Whatever its models are called: they are somebody's own."""
    made = request(temperature=0.5, stop=["x"], reasoning_effort="xhigh")
    assert fit(made, "gpt-5-nano", COMPATIBLE["openai"], drop=False) == (made, ())


def test_the_longest_beginning_of_a_name_counts() -> None:
    """gpt-5.1 is no gpt-5, and gpt-5-chat is none either."""
    assert models.facts_of("gpt-5.1-codex", models.OPENAI) is models.OPENAI["gpt-5.1"]
    assert models.facts_of("gpt-5-chat-latest", models.OPENAI) is models.OPENAI["gpt-5-chat"]
    assert models.facts_of("gpt-5-mini", models.OPENAI) is models.OPENAI["gpt-5"]
    assert models.facts_of("llama", models.OPENAI) is models.UNKNOWN
