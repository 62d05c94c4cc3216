"""The demo's main job on every provider's wire format: what it asks is the same, only who is asked differs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance_world import end_of, place_of

from pop_actors.providers import catalogue
from support import fake_claude
from support.anthropic_server import AnthropicServer
from support.daemon import Daemon, Workspace
from support.gemini_server import GeminiServer
from support.provider_server import ProviderServer

DEMO = Path(__file__).parents[2] / "demo"
SEED = json.loads((DEMO / "seeds" / "market-analysis.json").read_text(encoding="utf-8"))
OWN = ("responses", "compatible")
"""Endpoints nobody knows, of the OpenAI kind: they have no model of their own."""
PROVIDERS = (*catalogue.VENDORS, *OWN)
SETTING = {"PO_GATEWAY__DEFAULT_PROVIDER": "gemini"}
"""The one that is changed for the demo's own pipeline."""
SECONDS = 120.0


def demo_in(root: Path) -> Workspace:
    """A copy of the demo, as it stands."""
    workspace = Workspace(root)
    shutil.rmtree(root / "pipeline-config")
    shutil.copytree(DEMO / "pipeline-config", root / "pipeline-config")
    shutil.copy(DEMO / "pop.toml", root / "pop.toml")
    return workspace


def add_for(workspace: Workspace, provider: str) -> None:
    """The demo's pipeline once more, which asks that provider."""
    folder = workspace.root / "pipeline-config"
    shutil.copytree(folder / "demo", folder / provider)
    pipeline = folder / provider / "pipeline.json"
    asked = json.loads(pipeline.read_text(encoding="utf-8"))
    asked["llmOverride"] = {"provider": provider, **({"model": "anything"} if provider in OWN else {})}
    pipeline.write_text(json.dumps(asked), encoding="utf-8")
    registry = json.loads((folder / "registry.json").read_text(encoding="utf-8"))
    registry["pipelines"][provider] = {"name": provider}
    (folder / "registry.json").write_text(json.dumps(registry), encoding="utf-8")


def addresses(openai: str, anthropic: str, gemini: str, record: Path) -> dict[str, str]:
    """What is set in the environment to lead each provider to its server."""
    own = {"anthropic": anthropic, "gemini": gemini}
    command = json.dumps([sys.executable, fake_claude.__file__, "--record", str(record)])
    told = {
        f"PO_GATEWAY__PROVIDERS__{name.upper()}__BASE_URL": own.get(name, openai)
        for name in PROVIDERS
        if name != "claude-code"
    }
    return told | {
        "PO_GATEWAY__PROVIDERS__CLAUDE-CODE__COMMAND": command,
        "PO_GATEWAY__PROVIDERS__RESPONSES__KIND": "openai",
        "PO_GATEWAY__PROVIDERS__RESPONSES__API": "responses",
        "PO_GATEWAY__PROVIDERS__COMPATIBLE__KIND": "openai",
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("demo")
    workspace = demo_in(root)
    for provider in PROVIDERS:
        add_for(workspace, provider)
    with ExitStack() as opened:
        openai = opened.enter_context(ProviderServer())
        anthropic = opened.enter_context(AnthropicServer())
        gemini = opened.enter_context(GeminiServer())
        told = addresses(openai.base_url, anthropic.base_url, gemini.base_url, root / "claude.jsonl")
        daemon = opened.enter_context(Daemon(workspace, {"PO_MAX_RUNNING_JOBS": "3", **SETTING, **told}))
        for pipeline in ("demo", *PROVIDERS):
            workspace.drop(f"job-{pipeline}", SEED | {"pipeline": pipeline})
        yield daemon


def assert_report(daemon: Daemon, pipeline: str, provider: str) -> None:
    """The job is done, its report is there, and nobody but that provider was asked."""
    job_id = f"job-{pipeline}"
    assert end_of(daemon, job_id, SECONDS) == "done"
    place = place_of(daemon.workspace, job_id)
    assert (place / "files" / "artifacts" / "report.md").read_text(encoding="utf-8").startswith("# ")
    calls = daemon.workspace.lines(place / "llm-calls.jsonl")
    paid = [call for call in calls if call["type"] == "paid"]
    assert {call["provider"] for call in calls} == {provider}
    assert len(paid) == len([call for call in calls if call["type"] == "sent"])
    assert {call["task"] for call in paid} == {"research", "analysis", "synthesis", "formatting"}
    assert all(call["usage"]["inputTokens"] > 0 for call in paid)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_demo_runs_on_every_provider(daemon: Daemon, provider: str) -> None:
    """Four tasks, a refinement among them, each reply of its own schema, and none bought twice."""
    assert_report(daemon, provider, provider)


def test_the_demo_runs_on_another_provider_by_one_setting(daemon: Daemon) -> None:
    """Nothing in its pipeline names a provider or a model."""
    assert_report(daemon, "demo", SETTING["PO_GATEWAY__DEFAULT_PROVIDER"])
