"""What settings say of a provider's wire format, and tool calls, through the whole gateway and its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, world

from pop_actors.config import ProviderSettings
from pop_actors.errors import CallFailed

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def add(here: World, **settings: Any) -> None:
    """Have the gateway know a provider `other` with these settings, at the same server."""
    table = ProviderSettings(kind="openai", base_url=here.server.base_url, **settings)
    providers = {**here.settings.providers, "other": table}
    here.settings = here.settings.model_copy(update={"providers": providers})
    here.restart()


def test_tool_calls_are_journaled_and_replayed(tmp_path: Path) -> None:
    """A call of a tool is paid like a text; asked again after a crash it is the same call, and costs nothing."""
    with world(tmp_path) as here:
        bought = here.ask("tool-look_up", tools=[TOOL])
        assert bought["toolCalls"][0]["function"]["name"] == "look_up"
        here.restart()
        replayed = here.ask("tool-look_up", tools=[TOOL])
        assert replayed == {**bought, "replayed": True}
        assert len(here.server.calls) == 1


@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_provider_can_be_asked_by_its_other_api(tmp_path: Path, stream: str) -> None:
    """api = "responses": the same reply, by another path, and nothing stored there."""
    with world(tmp_path) as here:
        add(here, api="responses", stream=stream)
        assert here.ask("usage-5-6", provider="other")["usage"]["outputTokens"] == 6
        assert here.server.calls[0].path == "/v1/responses"
        assert here.server.calls[0].body["store"] is False
        assert here.types() == ["sent", "paid"]


def test_a_stream_that_was_cut_is_asked_for_again(tmp_path: Path) -> None:
    """It ended without its terminator: one more request, and the reply is whole."""
    with world(tmp_path) as here:
        add(here, stream="always")
        assert here.ask("unfinished-1", provider="other")["content"].startswith("reply to ")
        assert here.types() == ["sent", "failed", "sent", "paid"]


def test_what_a_broken_stream_had_used_is_booked_though_it_is_asked_for_again(tmp_path: Path) -> None:
    """Each bill once, under a key of its own, also after a restart; the reply that came in the end is replayed."""
    with world(tmp_path) as here:
        add(here, stream="always")
        reply = here.ask("unfinished-1+usage-12-34", provider="other")
        first, second = (line for line in here.journal() if "usage" in line)
        assert (first["type"], second["type"]) == ("failed", "paid")
        assert first["key"] == f"{second['key']}#1"
        assert [line["usage"]["outputTokens"] for line in (first, second)] == [34, 34]
        assert [event.output_tokens for _, event in here.paid] == [34, 34]
        here.restart()
        assert here.ask("unfinished-1+usage-12-34", provider="other") == {**reply, "replayed": True}
        assert len(here.server.calls) == 2


def test_an_endpoint_can_be_fitted_by_settings(tmp_path: Path) -> None:
    """Its name for the limit, a schema that is only shown, and headers of its own."""
    with world(tmp_path) as here:
        add(here, max_tokens_parameter="max_completion_tokens", schemas="shown", headers={"X-Title": "mine"})
        here.ask("ok", provider="other", maxTokens=9, responseFormat={"type": "object"})
        call = here.server.calls[0]
        assert call.body["max_completion_tokens"] == 9
        assert call.body["response_format"] == {"type": "json_object"}
        assert call.headers["x-title"] == "mine"


def test_what_a_configuration_sets_is_left_out_and_what_the_call_asks_for_is_refused(tmp_path: Path) -> None:
    """A pipeline's temperature for a model that takes none costs it nothing; a call's own is a mistake, and told before
    anything is sent."""
    with world(tmp_path) as here:
        here.ask("gpt-5-nano", provider="openai", temperature=0.3, configured=("temperature",))
        assert "temperature" not in here.server.calls[0].body
        with pytest.raises(CallFailed, match=r"gpt-5-nano does not take temperature .* leave it out of the call"):
            here.ask("gpt-5-nano", provider="openai", temperature=0.3, ordinal=2)
        with pytest.raises(CallFailed, match="stop"):
            here.ask("gpt-5-nano", provider="openai", stop=["x"], temperature=0.3, configured=("temperature",))
        assert len(here.server.calls) == 1


def test_what_a_model_refuses_can_fail_the_call(tmp_path: Path) -> None:
    """drop_unsupported = false: bad_request, naming the parameter, no request, and none in the journal as sent."""
    with world(tmp_path) as here:
        table = ProviderSettings(base_url=here.server.base_url, drop_unsupported=False)
        providers = {**here.settings.providers, "openai": table}
        here.settings = here.settings.model_copy(update={"providers": providers})
        here.restart()
        with pytest.raises(CallFailed, match="temperature") as failed:
            here.ask("gpt-5-nano", provider="openai", temperature=0.3, configured=("temperature",))
        assert failed.value.code == "bad_request"
        assert here.server.calls == []
        assert here.types() == ["failed"]
        assert here.view()["openai", "gpt-5-nano"]["lastError"]["code"] == "bad_request"
