"""The Claude Code CLI as a provider: real processes, run by a scripted executable in its place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pop_actors.core.api_keys import ApiKey, ProviderKeys
from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import command
from pop_actors.providers.prices import Rates
from pop_actors.providers.registry import Unset, open_provider
from pop_actors.providers.types import AttemptFailed, Provider, ProviderReply
from support import fake_claude
from support.daemon import wait_until

SECONDS = 40.0
KEY = "sk-ant-very-secret-1234567890"
USED = Usage(input_tokens=23, output_tokens=3, cached_tokens=5, cache_write_tokens=7, reasoning_tokens=2)


class Cli:
    """A provider over the scripted executable; `runs` is what it has recorded."""

    def __init__(self, folder: Path, *keys: str, **table: Any) -> None:
        self._record = folder / "runs.jsonl"
        program = (sys.executable, fake_claude.__file__, "--record", str(self._record))
        table = {"kind": "claude-code", "command": program, **table}
        prices = table.pop("prices", {})
        found = ProviderKeys(tuple(ApiKey(f"KEY_{place}", SecretStr(key)) for place, key in enumerate(keys)))
        self.provider = open_provider("claude-code", Unset(**table), found, 60.0, prices)

    @property
    def runs(self) -> list[dict[str, Any]]:
        lines = self._record.read_text(encoding="utf-8").splitlines() if self._record.exists() else []
        return [json.loads(line) for line in lines]

    def ask(self, model: str = "ok", seconds: float = SECONDS, **fields: Any) -> ProviderReply:
        return asyncio.run(_chat(self.provider, model, seconds, fields))

    def failure(self, model: str, seconds: float = SECONDS, **fields: Any) -> AttemptFailed:
        with pytest.raises(AttemptFailed) as failed:
            self.ask(model, seconds, **fields)
        return failed.value


async def _chat(provider: Provider, model: str, seconds: float, fields: dict[str, Any]) -> ProviderReply:
    fields = {"messages": [{"role": "user", "content": "hello"}], **fields}
    deadline = asyncio.get_running_loop().time() + seconds
    return await provider.chat(ChatRequest.model_validate(fields), model, deadline)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path, KEY, base_url="http://127.0.0.1:9/")


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in {"Z", "X"}


def test_a_reply_comes_with_usage_and_the_cost_it_reports(cli: Cli) -> None:
    """Its input excludes what a cache read and wrote; ours includes both."""
    reply = cli.ask()
    assert (reply.content, reply.finish_reason, reply.usage, reply.cost_usd) == ("hello", "stop", USED, 0.0125)


def test_the_prompt_goes_by_standard_input_and_the_instructions_by_a_file(cli: Cli) -> None:
    """However long they are, and neither can be read in a list of processes."""
    long = "word " * 100_000
    cli.ask(messages=[{"role": "system", "content": "Be brief. " + long}, {"role": "user", "content": long}])
    (run,) = cli.runs
    assert (run["prompt"], run["system"]) == (long, "Be brief. " + long)
    assert "word" not in "".join(run["arguments"])


def test_it_sees_nothing_of_us_but_what_it_needs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no descriptor, no folder of ours; a session and a group of its own; all of it gone afterwards."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    reader, writer = os.pipe()
    os.set_inheritable(reader, 1)
    cli.ask(max_tokens=77)
    os.close(reader)
    os.close(writer)
    (run,) = cli.runs
    environment = run["environment"]
    assert not {"OPENAI_API_KEY", "PYTHONPATH"} & environment.keys()
    assert (environment["ANTHROPIC_BASE_URL"], environment["CLAUDE_CODE_MAX_RETRIES"]) == ("http://127.0.0.1:9", "0")
    assert (environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"], environment["HOME"]) == ("77", run["folder"])
    kept = {target.partition(":")[0] for target in run["descriptors"].values()}
    assert len(run["descriptors"]) == 5, run["descriptors"]  # three streams, its rope, and the listing itself
    assert kept <= {"pipe", "socket", "gone", f"/proc/{run['pid']}/fd"}
    assert run["pid"] == run["group"] == run["session"] != os.getsid(0)
    assert not Path(run["folder"]).exists()


def test_the_key_reaches_it_through_a_pipe_alone(cli: Cli) -> None:
    """Not through an argument, a variable or a file: those can be read by others of the same user."""
    cli.ask()
    (run,) = cli.runs
    assert run.pop("key") == KEY
    assert KEY not in json.dumps(run)
    assert "--bare" in run["arguments"]


def test_without_a_key_whoever_is_logged_in_is_asked(tmp_path: Path) -> None:
    """Then it is not bare, which would not read the login, and its home is the user's."""
    cli = Cli(tmp_path)
    assert cli.ask().content == "hello"
    (run,) = cli.runs
    assert run["key"] is None
    assert {"--safe-mode", "--strict-mcp-config"} <= set(run["arguments"])
    assert "--bare" not in run["arguments"]
    assert run["environment"]["HOME"] == os.environ["HOME"]
    assert "ANTHROPIC_BASE_URL" not in run["environment"]


def test_a_document_of_a_schema_comes_back(cli: Cli) -> None:
    """By the CLI's own structured output."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    reply = cli.ask(response_format=schema)
    assert (json.loads(reply.content), reply.finish_reason) == ({"n": 4}, "stop")
    assert f"--json-schema={json.dumps(schema, separators=(',', ':'))}" in cli.runs[0]["arguments"]


@pytest.mark.parametrize(
    ("model", "code", "fate"),
    [
        ("fail-400", "bad_request", "permanent"),
        ("fail-401", "auth", "permanent"),
        ("fail-402", "quota", "permanent"),
        ("fail-429", "rate_limited", "refused"),
        ("fail-500", "server", "ambiguous"),
        ("fail-529", "overloaded", "refused"),
        ("fail-400+words-Credit_balance_is_too_low", "quota", "permanent"),
        ("fail-429+words-You've_hit_your_limit", "quota", "permanent"),
        ("says-Not_logged_in", "auth", "permanent"),
        ("says-API_Error:_Unable_to_connect_to_API", "connect", "never_sent"),
        ("says-API_Error:_Connection_error.", "disconnected", "ambiguous"),
        ("says-Something_else", "server", "ambiguous"),
        ("exit-3", "disconnected", "ambiguous"),
        ("signal-15", "disconnected", "ambiguous"),
        ("exit-1+old", "bad_request", "permanent"),
        ("silent", "disconnected", "ambiguous"),
        ("garbage", "disconnected", "ambiguous"),
        ("flood", "bad_reply", "permanent"),
    ],
)
def test_every_failure_is_one_of_ours(cli: Cli, model: str, code: str, fate: str) -> None:
    """The API's status where it reports one, else its words, else how it ended."""
    failure = cli.failure(model)
    assert (failure.code, failure.fate, failure.usage) == (code, fate, None)


def test_a_refusal_is_billed(cli: Cli) -> None:
    """It comes with its usage and its cost."""
    failure = cli.failure("refusal")
    assert (failure.code, failure.usage, failure.cost_usd) == ("blocked", USED, 0.0125)


def test_a_reply_cut_short_is_one(cli: Cli) -> None:
    """Text that ended with its tokens is delivered as such."""
    assert cli.ask("cut").finish_reason == "length"


def test_one_that_does_not_leave_after_its_result_does_not_hold_it_up(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is delivered, and it is killed with all it has started."""
    monkeypatch.setattr(command, "EXIT_SECONDS", 0.05)
    assert cli.ask("lingers+brood").content == "hello"
    (run,) = cli.runs
    assert is_gone(run["pid"])
    wait_until(lambda: is_gone(run["brood"]), SECONDS, "what it started to be gone")


def test_one_whose_child_holds_its_output_open_has_still_ended(cli: Cli) -> None:
    """Its end is its end, whoever else could still write."""
    assert cli.failure("exit-3+brood").code == "disconnected"
    wait_until(lambda: is_gone(cli.runs[0]["brood"]), SECONDS, "what it started to be gone")


def test_the_deadline_kills_the_whole_group(cli: Cli) -> None:
    """timeout, ambiguous, and nothing of it goes on."""
    failure = cli.failure("slow-600s+brood", seconds=1.5)
    assert (failure.code, failure.fate) == ("timeout", "ambiguous")
    for run in cli.runs:  # it may not have come so far
        wait_until(lambda run=run: is_gone(run["pid"]) and is_gone(run["brood"]), SECONDS, "the group to be gone")


def test_a_caller_who_leaves_takes_it_along(cli: Cli) -> None:
    """Cancelled, the call ends its process."""

    async def leave() -> None:
        call = asyncio.create_task(_chat(cli.provider, "slow-600s+brood", SECONDS, {}))
        await asyncio.to_thread(wait_until, lambda: cli.runs, SECONDS, "the run")
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()

    asyncio.run(leave())
    (run,) = cli.runs
    wait_until(lambda: is_gone(run["pid"]) and is_gone(run["brood"]), SECONDS, "the group to be gone")


def test_many_calls_leave_no_descriptor_behind(cli: Cli) -> None:
    """Replies, failures and timeouts alike."""

    async def several() -> set[str]:
        for model in ("ok", "fail-529", "exit-3"):
            await asyncio.gather(_chat(cli.provider, model, SECONDS, {}), return_exceptions=True)
        await asyncio.gather(_chat(cli.provider, "slow-600s", 0.3, {}), return_exceptions=True)
        return set(os.listdir("/proc/self/fd"))

    async def few() -> set[str]:
        await _chat(cli.provider, "ok", SECONDS, {})
        return set(os.listdir("/proc/self/fd"))

    assert len(asyncio.run(several())) == len(asyncio.run(few()))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
         "images"),
        ({"response_format": {"enum": ["x" * 150_000]}}, "schema"),
    ],
)  # fmt: skip
def test_what_it_cannot_be_told_is_refused_before_it_runs(cli: Cli, fields: dict[str, Any], named: str) -> None:
    """bad_request, with what is the matter."""
    failure = cli.failure("ok", **fields)
    assert failure.code == "bad_request"
    assert named in failure.message
    assert cli.runs == []


def test_a_model_is_never_an_option(cli: Cli) -> None:
    """What stands where a model should cannot become something the CLI obeys."""
    cli.ask("--mcp-config=/etc/x+ok")
    assert "--model=--mcp-config=/etc/x+ok" in cli.runs[0]["arguments"]


@pytest.mark.parametrize("model", ["a b", "x\0y", "", "a\nb", "x" * 201])
def test_what_cannot_be_a_models_name_is_refused(cli: Cli, model: str) -> None:
    """bad_request, and nothing runs."""
    assert cli.failure(model).code == "bad_request"
    assert cli.runs == []


CONVERSATION = """Write the assistant's next message in this conversation, and nothing else.

<user>
a
</user>

<assistant>
b
</assistant>

<user>
c
</user>"""


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([("user", "/help me")], "\n/help me"),  # else it is a command of the CLI
        ([("user", "@/etc/passwd")], "@/etc/passwd"),  # which is only text where attachments are off
        ([("system", "x"), ("user", "a"), ("assistant", "b"), ("user", "c")], CONVERSATION),
    ],
)
def test_a_prompt_is_only_ever_text(cli: Cli, messages: list[tuple[str, str]], prompt: str) -> None:
    """Several messages are told as one."""
    cli.ask(messages=[{"role": role, "content": content} for role, content in messages])
    (run,) = cli.runs
    assert run["prompt"] == prompt
    assert run["environment"]["CLAUDE_CODE_DISABLE_ATTACHMENTS"] == "1"


def test_what_it_does_not_take_is_left_out_with_a_warning(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    """A pipeline's temperature does not fail its calls, unless that is wanted."""
    cli.ask(temperature=0.3, stop=["x"], reasoning_effort="none")
    assert "temperature" in caplog.text
    assert "stop" in caplog.text
    assert "--effort=low" in cli.runs[0]["arguments"]


def test_where_nobody_says_what_it_cost_the_tables_do(tmp_path: Path) -> None:
    """The settings go before all of them."""
    assert Cli(tmp_path).ask("nocost").cost_usd is None
    own = {"*": Rates(1.0, 1.0)}
    assert Cli(tmp_path, prices=own).ask("ok").cost_usd == pytest.approx(26 / 1e6)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """And where it is set; no retry would help."""
    failure = Cli(tmp_path, command=("no-such-claude",)).failure("ok")
    assert (failure.code, failure.fate) == ("connect", "permanent")
    assert "no-such-claude" in failure.message
    assert "[gateway.providers.claude-code] command" in failure.message


def test_the_next_key_takes_over_from_one_that_is_exhausted(tmp_path: Path) -> None:
    """As with every provider; nobody's key is in what is said."""
    cli = Cli(tmp_path, "sk-one", "sk-two")
    failure = cli.failure("fail-402")
    assert [run["key"] for run in cli.runs] == ["sk-one", "sk-two"]
    assert failure.code == "quota"
    assert "KEY_0" in failure.message
    assert "KEY_1" in failure.message
    assert "sk-" not in failure.message


def test_the_kernel_ends_it_when_the_daemon_is_killed(tmp_path: Path) -> None:
    """kill -9 of whoever asked: the CLI and all it has started are gone, though nobody was left to see to it."""
    record = tmp_path / "runs.jsonl"
    script = f"""
import sys; sys.path[:0] = {[str(Path(fake_claude.__file__).parents[1])]!r}
from pathlib import Path
from integration.gateway.test_provider_claude_code import Cli
Cli(Path({str(tmp_path)!r})).ask("slow-600s+brood")
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    asker = subprocess.Popen([sys.executable, "-c", script], cwd=Path(fake_claude.__file__).parents[2], env=environment)
    try:
        wait_until(record.exists, SECONDS, "the run")
        wait_until(lambda: record.read_text().endswith("\n"), SECONDS, "the run's record")
    finally:
        asker.kill()
        asker.wait(SECONDS)
    run = json.loads(record.read_text())
    wait_until(lambda: is_gone(run["pid"]) and is_gone(run["brood"]), SECONDS, "the group to be gone")
