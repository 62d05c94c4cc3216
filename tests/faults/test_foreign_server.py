"""One round trip per wire format against a server nobody here wrote: `@copilotkit/aimock`, from npm.

Skipped where npx, or the package, is not to be had.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pop_actors.config import GatewaySettings, ProviderSettings
from pop_actors.errors import CallFailed
from pop_actors.gateway import EmbeddedGateway
from support.daemon import wait_until

PACKAGE = "@copilotkit/aimock@1"
INSTALL_SECONDS = 90.0
WEATHER = {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
FIXTURES = [
    {
        "match": {"userMessage": "a word"},
        "response": {"content": "Hello!", "usage": {"prompt_tokens": 12, "completion_tokens": 34}},
    },
    {"match": {"userMessage": "a tool"}, "response": {"toolCalls": [{"name": "weather", "arguments": '{"at":"sea"}'}]}},
    {
        "match": {"userMessage": "an error"},
        "response": {"error": {"message": "no such thing", "type": "invalid_request_error"}, "status": 400},
    },
]
FORMATS = {
    "chat": ("openai", "/v1", {"api": "chat"}),
    "responses": ("openai", "/v1", {"api": "responses"}),
    "messages": ("anthropic", "", {}),
    "generateContent": ("gemini", "/v1beta", {}),
}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-3-haiku", "gemini": "gemini-2.5-flash"}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    if shutil.which("npx") is None:
        pytest.skip("there is no npx")
    place = tmp_path_factory.mktemp("aimock")
    (place / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}), encoding="utf-8")
    log = place / "log"
    command = ["npx", "--yes", f"--package={PACKAGE}", "llmock", "-p", "0", "-f", str(place / "fixtures.json")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=place, stdout=out, stderr=out, start_new_session=True)
    try:
        try:
            wait_until(lambda: "listening on" in log.read_text() or process.poll() is not None, INSTALL_SECONDS)
        except AssertionError:
            pytest.skip(f"{PACKAGE} did not come in {INSTALL_SECONDS:g} s: {log.read_text()[-500:]}")
        found = re.search(r"listening on (\S+)", log.read_text())
        if found is None:
            pytest.skip(f"{PACKAGE} is not to be had: {log.read_text()[-500:]}")
        yield found[1]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture(params=["never", "always"])
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(folder: Path, server: str, name: str, stream: Any, text: str, **request: Any) -> Any:
    kind, path, more = FORMATS[name]
    table = ProviderSettings(kind=kind, base_url=server + path, stream=stream, **more)
    settings = GatewaySettings(default_provider="aimock", default_model=MODELS[kind], providers={"aimock": table})
    with EmbeddedGateway(folder, settings, {"aimock": "sk-nobody"}) as gateway:
        return gateway.session("one").chat(text, **request)


@pytest.mark.parametrize("name", FORMATS)
def test_a_word_goes_there_and_a_sentence_comes_back(tmp_path: Path, server: str, name: str, stream: str) -> None:
    """With what it used and why it ended."""
    reply = ask(tmp_path, server, name, stream, "a word", max_tokens=100)
    assert (reply.content, reply.finish_reason) == ("Hello!", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (12, 34)


@pytest.mark.parametrize("name", FORMATS)
def test_a_tool_is_called_in_the_one_form(tmp_path: Path, server: str, name: str, stream: str) -> None:
    """Whatever the wire calls it."""
    reply = ask(tmp_path, server, name, stream, "a tool", tools=[{"type": "function", "function": WEATHER}])
    function = reply.tool_calls[0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("weather", {"at": "sea"})
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", FORMATS)
def test_an_error_is_understood(tmp_path: Path, server: str, name: str, stream: str) -> None:
    """One code, and what was said."""
    with pytest.raises(CallFailed, match="no such thing") as failed:
        ask(tmp_path, server, name, stream, "an error")
    assert failed.value.code == "bad_request"
