"""What the Claude Code CLI is told and what its output means, without running it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest
from pop_actors.providers import claude_code_wire as wire
from pop_actors.providers.types import AttemptFailed

RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "hi", "stop_reason": "end_turn"}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}], **fields})


def output(**fields: Any) -> bytes:
    return json.dumps({**RESULT, **fields}).encode()


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        (b"", False),
        (output()[:-1], False),
        (output(), True),
        (output() + b"\n", True),
        (b'{"type": "system"}\n' + output() + b"\n", True),
        (b'[{"type": "system"}, ' + output() + b"]\n", True),
        (b'{"type": "system"}\n', False),
        (b"[]", False),
        (b"}", False),
    ],
)
def test_it_is_whole_when_the_result_is_here(written: bytes, whole: bool) -> None:
    """Printed as one document, as a line of several, or as a list's last."""
    assert wire.is_whole(written) is whole


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_output_is_too_odd_to_be_read(written: bytes | str) -> None:
    """Whatever it prints, it is a result or none."""
    written = written.encode() if isinstance(written, str) else written
    assert wire.result_in(written) is None or b"result" in written


def outcome(result: wire.Result) -> str:
    try:
        return wire.reply(result, request(), 0.0).content
    except AttemptFailed as failure:
        return failure.code


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(fields=st.dictionaries(st.sampled_from([*RESULT, "api_error_status", "usage", "total_cost_usd"]), odd))
def test_a_result_of_odd_types_is_a_reply_or_a_clean_failure(fields: dict[str, Any]) -> None:
    """Nothing else comes of it."""
    result = wire.result_in(json.dumps({**RESULT, **fields, "type": "result"}).encode())
    if result is None:
        return  # NaN and infinities, which are not JSON
    assert outcome(result).strip()


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '```\n{"a": 1}\n```\n', '{"a": 1}'])
def test_json_comes_out_of_its_fence(text: str) -> None:
    """Models like to put it into one, asked not to."""
    result = wire.result_in(output(result=text))
    assert result is not None
    assert json.loads(wire.reply(result, request(response_format="json"), 0.0).content) == {"a": 1}
    assert wire.reply(result, request(), 0.0).content == text


def test_json_is_asked_for_among_the_instructions() -> None:
    """The CLI has no mode for it."""
    told = wire.system_prompt(request(response_format="json"))
    assert "JSON object" in told
    assert wire.system_prompt(request()) == ""


def test_a_spent_subscription_says_when_it_comes_back() -> None:
    """The key stands down till then."""
    result = wire.result_in(output(is_error=True, result="Claude AI usage limit reached|1763999999"))
    assert result is not None
    with pytest.raises(AttemptFailed) as failed:
        wire.reply(result, request(), 1763990000.0)
    assert (failed.value.code, failed.value.details["tryAgainIn"]) == ("quota", 9999.0)


@pytest.mark.parametrize("folder", ["plain", "with space", "o'clock", 'quo"te', "dollar$HOME"])
def test_the_helper_reads_one_line_of_the_pipe_wherever_it_stands(tmp_path: Path, folder: str) -> None:
    """As often as it is asked; the shell is the judge."""
    (tmp_path / folder).mkdir()
    pipe = tmp_path / folder / "key"
    pipe.write_text("sk-1\nsk-1\n")
    told = wire.arguments(request(), "sonnet", system_file=None, key_pipe=str(pipe))
    (settings,) = (json.loads(word.removeprefix("--settings=")) for word in told if word.startswith("--settings="))
    assert subprocess.run(["sh", "-c", settings["apiKeyHelper"]], capture_output=True, text=True).stdout == "sk-1"


def test_a_schema_it_could_not_meet_is_a_bad_reply_and_billed() -> None:
    """Asked again it would be paid again, with no better prospects."""
    usage = {"input_tokens": 5, "output_tokens": 7}
    result = wire.result_in(output(subtype="error_max_structured_output_retries", is_error=True, usage=usage))
    assert result is not None
    with pytest.raises(AttemptFailed) as failed:
        wire.reply(result, request(), 0.0)
    assert (failed.value.code, failed.value.fate) == ("bad_reply", "permanent")
    assert failed.value.usage == result.usage
