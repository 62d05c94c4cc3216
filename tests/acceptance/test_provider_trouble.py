"""A provider that misbehaves: a task fails with reason `provider`, or succeeds after retries; the daemon goes on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import assert_still_serves, output_of, place_of, quick_workspace, run

from support.daemon import Daemon, Workspace, wait_until

SERVER = Path(__file__).parents[1] / "support" / "provider_server.py"
CALL = """
def inference(ctx):
    messages = [{"role": "user", "content": "hello"}]
    reply = ctx.llm.chat(messages, provider=ctx.config["provider"], model=ctx.config["model"])
    return {"output": {"length": len(reply.content), "usage": reply.usage.input_tokens, "finish": reply.finish_reason}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("trouble")
    port_file = root / "port"
    server = subprocess.Popen([sys.executable, str(SERVER), "--port-file", str(port_file)])
    try:
        wait_until(port_file.exists, 20, "the provider's port")
        settings = f"""
[gateway]
request_timeout_seconds = 1.5
idle_timeout_seconds = 0.5
max_retries = 1
[gateway.providers.scripted]
kind = "openai"
base_url = "http://127.0.0.1:{port_file.read_text(encoding="utf-8")}/v1"
[gateway.providers.refusing]
kind = "openai"
base_url = "http://127.0.0.1:{_free_port()}/v1"
"""
        with Daemon(quick_workspace(root, settings)) as daemon:
            yield daemon
    finally:
        server.terminate()
        server.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


def called(daemon: Daemon, job_id: str, model: str, provider: str = "scripted") -> dict[str, Any]:
    """The status of a job whose only task asks that provider's model once."""
    entries = [{"name": "asks", "maxAttempts": 1, "config": {"provider": provider, "model": model}}]
    daemon.workspace.add_pipeline(job_id, {"asks": CALL}, entries)
    return run(daemon, job_id, job_id)


@pytest.mark.parametrize(
    "model",
    ["empty", "garbage", "notjson", "nochoices", "wrongtypes", "deep", "cut", "reset", "hangup", "stall", "endless",
     "fail-500", "fail-401", "quota", "redirect"],
)  # fmt: skip
def test_a_reply_that_is_none_fails_the_task_as_provider(daemon: Daemon, workspace: Workspace, model: str) -> None:
    """Reason `provider` at the stage that called; every call sent stands in the journal with its end."""
    job_id = f"trouble-{model}"
    status = called(daemon, job_id, f"{model}+{job_id}")
    assert (status["state"], status["currentStage"]) == ("error", "inference")
    assert (status["error"]["reason"], status["error"]["name"]) == ("provider", "CallFailed")
    lines = workspace.lines(place_of(workspace, job_id) / "llm-calls.jsonl")
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "sent"
    assert kinds[-1] == "failed"
    assert "error" in lines[-1]
    assert_still_serves(daemon, job_id)


def test_a_refused_connection_fails_the_task_as_provider(daemon: Daemon) -> None:
    """Nobody listens there."""
    status = called(daemon, "refused", "ok", "refusing")
    assert (status["state"], status["error"]["reason"]) == ("error", "provider")
    assert_still_serves(daemon, "refused")


def test_an_unknown_provider_fails_the_task_and_says_which_there_are(daemon: Daemon) -> None:
    """Not tried again."""
    status = called(daemon, "unknown-provider", "ok", "nobody")
    assert (status["state"], status["error"]["reason"]) == ("error", "provider")
    assert "nobody" in status["error"]["message"]


def test_a_provider_without_its_key_fails_the_task_and_names_the_variable(daemon: Daemon) -> None:
    """The message teaches the fix."""
    status = called(daemon, "no-key", "gpt-5-nano", "openai")
    assert (status["state"], status["error"]["reason"]) == ("error", "provider")
    assert "OPENAI_API_KEY" in status["error"]["message"]


@pytest.mark.parametrize("model", ["fail-500-1", "fail-429-1+after-1s", "fail-503-1", "hangup-1", "slow-200ms"])
def test_trouble_that_passes_is_retried(daemon: Daemon, workspace: Workspace, model: str) -> None:
    """The task succeeds at its first attempt, and the reply is booked once."""
    job_id = f"passing-{model.replace('+', '-')}"
    status = called(daemon, job_id, f"{model}+{job_id}+usage-12-34")
    assert (status["state"], status["tasks"]["asks"]["attempts"]) == ("done", 1)
    assert status["tokens"] == {"input": 12, "output": 34}
    lines = workspace.lines(place_of(workspace, job_id) / "llm-calls.jsonl")
    assert [line["type"] for line in lines].count("paid") == 1


def test_ten_megabytes_are_a_reply_or_a_provider_fault_but_no_harm(daemon: Daemon, workspace: Workspace) -> None:
    """Whatever the limit is, the job ends, and the daemon lives."""
    status = called(daemon, "ten-megabytes", "big-10mb")
    if status["state"] == "done":
        assert output_of(workspace, "ten-megabytes", "asks")["length"] == 10_000_000
    else:
        assert status["error"]["reason"] == "provider"
    assert_still_serves(daemon, "ten-megabytes")


def test_a_journal_line_has_what_the_contract_says(daemon: Daemon, workspace: Workspace) -> None:
    """`sent` before the bytes leave, `paid` with reply, usage and cost; the same key; usage in the status, too."""
    status = called(daemon, "booked", "ok+usage-56-120")
    sent, paid = workspace.lines(place_of(workspace, "booked") / "llm-calls.jsonl")
    common = {"type", "key", "task", "attempt", "stage", "round", "ordinal", "requestSha256", "provider", "model", "at"}
    assert (sent["type"], paid["type"]) == ("sent", "paid")
    assert sent.keys() >= common
    assert paid.keys() >= common | {"reply", "usage", "costUsd"}
    assert sent["key"] == paid["key"]
    assert (paid["task"], paid["attempt"], paid["stage"], paid["round"]) == ("asks", 1, "inference", 0)
    name, tokens_in, tokens_out, cost = status["tasks"]["asks"]["tokenUsage"][0]
    assert (name, tokens_in, tokens_out) == ("scripted:ok+usage-56-120", 56, 120)
    assert cost == paid["costUsd"]
    assert json.dumps(paid["usage"]).count("56") >= 1
