"""Keys of providers, several to each, in a whole service at work: they are used, and they are nowhere to be seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_world import get_socket, output_of, quick_workspace, run

from support import fake_claude
from support.daemon import Daemon
from support.processes import of_session
from support.provider_server import ProviderServer

SPENT, GOOD, IN_FILE = "sk-spent-1234567890abcdef", "sk-good-1234567890abcdef", "sk-file-1234567890abcdef"
FOR_CLI, UNREAD = "sk-ant-1234567890abcdef", "sk-unread-1234567890abcdef"
KEYS = (SPENT, GOOD, IN_FILE, FOR_CLI, UNREAD)
SETTINGS = """
[gateway.providers.scripted]
kind = "openai"
base_url = "{base_url}"
api_key_env = ["SPENT_TEST_KEY", "GOOD_TEST_KEY"]
api_key_file = "third.key"
[gateway.providers.openai]
api_key_env = "GOOD_TEST_KEY"
[gateway.prices."scripted:ok"]
input = 1000000
output = 0
[gateway.providers.claude-code]
command = {command}
base_url = "http://127.0.0.1:9"
api_key_env = "CLI_TEST_KEY"
"""
CALLS = """
def inference(ctx):
    ask = [{"role": "user", "content": "hello"}]
    replies = [ctx.llm.chat(ask, provider=provider, model="ok") for provider in ("scripted", "claude-code")]
    return {"output": [reply.cost_usd for reply in replies]}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as made:
        made.keys[SPENT] = "quota"
        yield made


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, server: ProviderServer) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("secrets")
    command = [sys.executable, fake_claude.__file__, "--record", str(root.parent / "cli-runs.jsonl")]
    workspace = quick_workspace(root, SETTINGS.format(base_url=server.base_url, command=json.dumps(command)))
    (root / "third.key").write_text(IN_FILE + "\n")
    environment = {"SPENT_TEST_KEY": SPENT, "GOOD_TEST_KEY": GOOD, "CLI_TEST_KEY": FOR_CLI}
    environment["OPENAI_API_KEY"] = UNREAD  # the usual variable; this workspace names another
    workspace.add_pipeline("asks", {"asks": CALLS})
    with Daemon(workspace, environment) as daemon:
        yield daemon


def test_a_job_goes_on_with_the_next_key_and_no_key_is_anywhere(daemon: Daemon, server: ProviderServer) -> None:
    """Not in a file, a log, a metric, a view, or the environment or arguments of any process."""
    assert run(daemon, "asks-1", "asks")["state"] == "done"
    assert output_of(daemon.workspace, "asks-1", "asks") == [12.0, 0.0125]
    assert [call.headers["authorization"] for call in server.calls] == [f"Bearer {key}" for key in (SPENT, GOOD)]
    root = daemon.workspace.root
    (cli,) = (json.loads(line) for line in (root.parent / "cli-runs.jsonl").read_text().splitlines())
    assert cli.pop("key") == FOR_CLI
    said = [json.dumps(cli), daemon.ctl("gateway", "--json").stdout, get_socket(daemon, "/metrics")[1].decode()]
    said += [path.read_text(errors="replace") for path in root.rglob("*") if path.is_file() and path.suffix != ".key"]
    for process in of_session(daemon.pid):
        said += [Path(f"/proc/{process.pid}/{what}").read_text(errors="replace") for what in ("environ", "cmdline")]
    assert [(key, text[:200]) for key in KEYS for text in said if key in text] == []


def test_an_operator_sees_which_key_stands(daemon: Daemon) -> None:
    """By the names of the places the keys came from."""
    run(daemon, "asks-2", "asks")
    rows = json.loads(daemon.ctl("gateway", "--json").stdout)
    (row,) = (row for row in rows if (row["provider"], row["model"]) == ("scripted", "ok"))
    standing = {key["name"]: key["standing"] for key in row["keys"]}
    assert standing == {"SPENT_TEST_KEY": False, "GOOD_TEST_KEY": True, "third.key": True}
    (row,) = (row for row in rows if row["provider"] == "claude-code")
    assert row["limits"]["maxConcurrency"] == 2
