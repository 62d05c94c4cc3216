"""Traces of runs, as a collector gets them from a real popd; and that a collector in trouble costs no work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_world import end_of, place_of, quick_workspace, run

from support.daemon import Daemon, Workspace, wait_until

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from support.otlp_collector import Collector, Taken  # it needs the extra itself

KEY = "ls-very-secret-1234567890"
SECONDS = 30.0
ASKS = """
from pop_actors.runner import StageContext, StageResult

def inference(ctx: StageContext) -> StageResult:
    return StageResult(output={"said": ctx.llm.chat("what a secret prompt").content})

def integration(ctx: StageContext) -> StageResult:
    return StageResult(output=ctx.output)
"""


def tracing_workspace(root: Path, address: str) -> Workspace:
    workspace = quick_workspace(root, f'[telemetry]\notlp_endpoint = "{address}"\n')
    workspace.add_pipeline("asking", {"ask": ASKS})
    return workspace


def test_a_run_is_one_trace(tmp_path: Path) -> None:
    """Run, task, stages, and the wait and the call within the stage that made it; nothing of what was said."""
    with Collector() as collector:
        workspace = tracing_workspace(tmp_path, collector.address)
        with Daemon(workspace, {"PO_TELEMETRY__HEADERS__X-API-KEY": KEY}) as daemon:
            assert run(daemon, "job-1", "asking")["state"] == "done"
        spans = {span.name: span for span in collector.spans}
    assert len({span.trace for span in collector.spans}) == 1
    assert parents_of(collector.spans) == {
        "asking": None, "ask": "asking", "load": "ask", "inference": "ask", "integration": "ask",
        "wait offline": "inference", "chat offline-1": "inference",
    }  # fmt: skip
    call, whole = spans["chat offline-1"], spans["asking"]
    assert call.attributes["gen_ai.request.model"] == "offline-1"
    assert call.attributes["gen_ai.usage.input_tokens"] > 0
    assert whole.attributes["pop.job_id"] == "job-1"
    assert whole.begin <= spans["ask"].begin <= spans["ask"].end <= whole.end
    assert whole.resource["service.name"] == "pop_actors"
    assert all(span.error is None for span in collector.spans)
    assert set(collector.paths) == {"/v1/traces"}
    assert "secret prompt" not in repr([span.attributes for span in collector.spans])
    assert {headers["x-api-key"] for headers in collector.headers} == {KEY}
    assert KEY not in daemon.text_of_log()


def parents_of(spans: list[Taken]) -> dict[str, str | None]:
    """By name: the name of the span above."""
    names = {span.id: span.name for span in spans}
    return {span.name: names[span.parent] if span.parent else None for span in spans}


@pytest.mark.faults
def test_a_run_that_outlives_its_daemon_is_one_trace(tmp_path: Path) -> None:
    """The ids come from the run's name, so what the next daemon sends joins what was sent before."""
    asks = ASKS.replace("def integration(", "def parsing(ctx):\n    hold(ctx)\n    return ctx\n\ndef integration(")
    hold = (
        "import pathlib, time\n\ndef hold(ctx):\n"
        "    path = pathlib.Path(ctx.data['seed']['data']['until'])\n"
        "    while not path.exists():\n        time.sleep(0.01)\n"
    )
    asks = asks.replace("    return ctx\n", "    return StageResult(output=ctx.output)\n") + hold
    until = tmp_path / "go-on"
    with Collector() as collector:
        workspace = tracing_workspace(tmp_path / "root", collector.address)
        workspace.add_pipeline("holding", {"ask": asks})
        with Daemon(workspace) as daemon:
            workspace.drop("job-1", {"pipeline": "holding", "data": {"until": str(until)}})
            wait_until(lambda: "inference" in {span.name for span in collector.spans}, SECONDS, "spans", daemon)
            daemon.kill()
        until.touch()
        with Daemon(workspace) as daemon:
            assert end_of(daemon, "job-1") == "done"
    assert len({span.trace for span in collector.spans}) == 1
    assert parents_of(collector.spans)["inference"] == "ask"
    assert parents_of(collector.spans)["holding"] is None


@pytest.mark.faults
@pytest.mark.parametrize("trouble", ["nobody", "silent"])
def test_a_collector_in_trouble_costs_spans_and_no_work(tmp_path: Path, trouble: str) -> None:
    """The job is done, and popd stops with exit code 0, within its patience."""
    with Collector(silent=True) as collector:
        workspace = tracing_workspace(tmp_path, collector.address if trouble == "silent" else "http://127.0.0.1:9")
        with Daemon(workspace) as daemon:
            assert run(daemon, "job-1", "asking")["state"] == "done"
            assert daemon.stop() == 0
    complaints = [line for line in daemon.text_of_log().splitlines() if "opentelemetry.exporter" in line]
    assert len(complaints) <= 1, "one line a minute is enough to know it"
    assert place_of(workspace, "job-1").parent.name == "complete"


def test_the_header_reaches_no_process_of_a_job(tmp_path: Path) -> None:
    """It may hold a key."""
    leaks = "import os\n\ndef ingestion(ctx):\n    return {'output': {'seen': [*os.environ.items()]}}\n"
    with Collector() as collector:
        workspace = tracing_workspace(tmp_path, collector.address)
        workspace.add_pipeline("leaking", {"look": leaks})
        with Daemon(workspace, {"PO_TELEMETRY__HEADERS__X-API-KEY": KEY}) as daemon:
            assert run(daemon, "job-1", "leaking")["state"] == "done"
    assert KEY not in (place_of(workspace, "job-1") / "tasks" / "look" / "output.json").read_text()


def test_without_a_collector_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    """Who wants no traces does not carry the SDK."""
    look = (
        "import sys, pathlib\n"
        "from pop_actors.config import load\n"
        "from pop_actors.daemon import Daemon\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "Daemon(load(root, None, {}), root / 's', lambda: None, lambda: None, print)\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", look, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert done.stdout.strip() == "[]", done.stderr


def test_an_address_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """With what is allowed, and without a key that was written into it."""
    workspace = tracing_workspace(tmp_path, "http://user:password@127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "pop_actors", "--root", str(workspace.root), "--check"],
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 2
    assert "headers" in done.stderr
    assert "password" not in done.stderr
