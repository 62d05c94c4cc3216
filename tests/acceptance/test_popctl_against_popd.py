"""popctl against a real popd: exit codes, what each command does, and the JSON it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_world import GOOD, end_of, place_of, quick_workspace, run

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until
from support.popctl import Popctl

LIST_KEYS = {
    "id", "pipelineId", "name", "pipeline", "state", "mode", "current", "currentStage", "progress", "createdAt",
    "lastUpdated", "costUsd",
}  # fmt: skip
RUN_KEYS = {
    "name", "pipelineId", "finishedAt", "tasks", "totalExecutionTime", "totalRefinementAttempts", "finalArtifacts",
    "id", "pipeline", "mode", "startedAt", "costUsd", "tokens", "attempts",
}  # fmt: skip
TREE_KEYS = {"name", "kind", "state", "pid", "restarts", "mailbox", "uptime", "children"}
COUNTS = """
def ingestion(ctx):
    ctx.io.write_tmp('runs-' + ctx.meta.task_name, 'x', mode='append')
    return {'output': 1}
"""
FAILS_UNTIL = "import os\ndef ingestion(ctx):\n    return {'output': open(GATE).read()}\n"
HANGS = "import threading\ndef ingestion(ctx):\n    print('hangs now', flush=True)\n    threading.Event().wait()\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workspace = quick_workspace(tmp_path_factory.mktemp("popctl"))
    workspace.add_pipeline("hangs", {"hangs": HANGS})
    with Daemon(workspace) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


@pytest.fixture
def popctl(workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Popctl:
    return Popctl(workspace.root, capsys, monkeypatch)


def test_submit_wait_says_how_the_job_ended(popctl: Popctl, workspace: Workspace, tmp_path: Path) -> None:
    """0 when it is done, 1 when it failed or was turned down; the id is printed."""
    seed = tmp_path / "seed.json"
    seed.write_text('{"name": "My Job", "data": {}}', encoding="utf-8")
    done = popctl("submit", str(seed), "--wait")
    assert done.code == 0
    job_id = done.out.strip()
    assert job_id.startswith("my-job-")
    assert workspace.is_complete(job_id)
    workspace.add_pipeline("fails", {"a": "def ingestion(ctx):\n    1 / 0\n"}, [{"name": "a", "maxAttempts": 1}])
    failed = popctl("submit", "-", "--id", "submitted-bad", "--pipeline", "fails", "--wait", stdin='{"data": {}}')
    assert (failed.code, failed.out) == (1, "submitted-bad\n")
    assert workspace.state("submitted-bad") == "error"
    turned_down = popctl("submit", "-", "--id", "submitted-lost", "--wait", stdin='{"data": {}, "pipeline": "none"}')
    assert turned_down.code == 1
    assert "unknown_pipeline" in turned_down.err
    assert popctl("submit", "-", stdin="{").code == 1
    attached = popctl("submit", "-", "--id", "with-file", "--attach", str(seed), "--wait", stdin='{"data": {}}')
    assert attached.code == 0
    assert (place_of(workspace, "with-file") / "files" / "artifacts" / "seed.json").exists()


def test_a_seed_submitted_without_a_daemon_is_dropped_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so; commands that need the daemon exit 3."""
    workspace = quick_workspace(tmp_path)
    popctl = Popctl(workspace.root, capsys, monkeypatch)
    done = popctl("submit", "-", "--id", "patient", stdin='{"data": {}}')
    assert done.code == 0
    assert "no daemon" in done.err
    assert (workspace.data / "pending" / "patient-seed.json").exists()
    for command in (("status",), ("list",), ("stop", "patient"), ("tree",), ("runs",)):
        assert popctl(*command).code == 3
    refused = popctl("--json", "list")
    assert (refused.code, refused.document["ok"], refused.document.keys()) == (3, False, {"ok", "code", "message"})
    with Daemon(workspace) as daemon:
        assert end_of(daemon, "patient") == "done"


def test_what_is_not_there_exits_4(popctl: Popctl) -> None:
    """Of every command that takes a job; with --json the error is a document."""
    for command in (("status",), ("report",), ("logs",), ("stop",), ("restart",), ("watch",)):
        refused = popctl("--json", *command, "no-such-job")
        assert refused.code == 4, command
        assert refused.document.keys() == {"ok", "code", "message"}
        assert "no-such-job" in refused.err
    for odd in ("..", "a/b", "%2e%2e", "x" * 300, "ä"):
        assert popctl("status", odd).code == 4, odd


def test_wrong_usage_exits_2(popctl: Popctl) -> None:
    """An unknown command, a missing argument, options that do not go together."""
    for command in (("frobnicate",), ("stop",), ("list", "--state", "odd"), ("restart", "x", "--only"), ("submit",)):
        assert popctl(*command).code == 2, command


def test_json_shapes(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """list, status JOB, runs and tree print exactly the contract's keys; status is the status file."""
    run(daemon, "shaped", GOOD)
    workspace.drop("shaped-hangs", {"data": {}, "pipeline": "hangs"})
    wait_until(lambda: (workspace.status("shaped-hangs") or {}).get("currentStage") == "ingestion", 10, "it", daemon)
    unfinished = popctl("--json", "list").document
    assert "shaped-hangs" in {job["id"] for job in unfinished}
    assert "shaped" not in {job["id"] for job in unfinished}
    everything = popctl("--json", "list", "--all").document
    assert "shaped" in {job["id"] for job in everything}
    for job in [*unfinished, *everything]:
        assert job.keys() == LIST_KEYS
    assert {job["state"] for job in popctl("--json", "list", "--state", "running").document} == {"running"}
    assert popctl("--json", "status", "shaped").document == workspace.status("shaped")
    runs = popctl("--json", "runs").document
    assert all(line.keys() >= RUN_KEYS for line in runs)
    assert next(line for line in runs if line["id"] == "shaped") in workspace.runs()
    tree = popctl("--json", "tree").document
    found = list(_nodes(tree))
    assert all(node.keys() >= TREE_KEYS for node in found)
    assert {node["kind"] for node in found} == {"thread", "process", "supervisor"}
    job = next(node for node in found if node["name"].endswith("shaped-hangs"))
    assert job["kind"] == "process"
    pid = (workspace.data / "current" / "shaped-hangs" / "runner.pid").read_text(encoding="utf-8").split()[0]
    assert job["pid"] == int(pid)
    assert popctl("stop", "shaped-hangs").code == 0


def _nodes(node: dict[str, object]) -> Iterator[dict[str, object]]:
    yield node
    children = node["children"]
    assert isinstance(children, list)
    for child in children:
        yield from _nodes(child)


def test_commands_for_people_print_something_readable(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """Without --json: lines that name the job; logs print what the stage said."""
    workspace.add_pipeline(
        "says", {"says": "def ingestion(ctx):\n    print('good morning')\n    return {'output': 1}\n"}
    )
    run(daemon, "said", "says")
    for command in (("status", "said"), ("report", "said"), ("runs",), ("list", "--all"), ("watch", "said")):
        shown = popctl(*command)
        assert (shown.code, "said" in shown.out) == (0, True), command
    assert "watcher" in popctl("tree").out
    assert "good morning" in popctl("logs", "said").out
    assert "good morning" in popctl("logs", "said", "--task", "says", "--stage", "ingestion", "-f").out
    assert "good morning" not in popctl("logs", "said", "--stage", "parsing").out
    report = popctl("--json", "report", "said").document
    assert report["id"] == "said"
    assert popctl("status").code == 0


def test_stop_ends_a_running_job_at_once(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """State stopped when the command returns, its process gone, its slot free; a second stop is refused."""
    workspace.drop("halted", {"data": {}, "pipeline": "hangs"})
    pid_file = workspace.data / "current" / "halted" / "runner.pid"
    wait_until(lambda: (workspace.status("halted") or {}).get("currentStage") == "ingestion", 10, "it to run", daemon)
    pid = pid_file.read_text(encoding="utf-8").split()[0]
    assert popctl("stop", "halted").code == 0
    status = popctl("--json", "status", "halted").document
    assert status["state"] == "stopped"
    assert status["tasks"]["hangs"]["state"] == "pending"
    wait_until(lambda: workspace.state("halted") == "stopped", 5, "the status file", daemon)
    wait_until(lambda: not Path("/proc", pid).exists(), 5, "its process to be gone", daemon)
    assert not pid_file.exists()
    assert popctl("stop", "halted").code == 1
    run(daemon, "after-halted", GOOD)


def test_a_failed_job_goes_on_after_restart(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """A new run id; what was done stays done with `--from`, and the job ends well once the cause is gone."""
    gate = workspace.root / "gate-restart"
    tasks = {"first": COUNTS, "second": f"GATE = {str(gate)!r}\n{FAILS_UNTIL}", "third": COUNTS}
    workspace.add_pipeline("mends", tasks, ["first", {"name": "second", "maxAttempts": 1}, "third"])
    before = run(daemon, "mended", "mends")
    assert before["state"] == "error"
    gate.write_text("open", encoding="utf-8")
    assert popctl("restart", "mended", "--from", "second").code == 0
    assert end_of_run(daemon, "mended", before["pipelineId"]) == "done"
    after = workspace.status("mended")
    assert after is not None
    assert after["pipelineId"] != before["pipelineId"]
    assert [task["state"] for task in after["tasks"].values()] == ["done"] * 3
    assert after["error"] is None
    tmp = place_of(workspace, "mended") / "files" / "tmp"
    assert (tmp / "runs-first").read_text(encoding="utf-8") == "x"
    assert [line["id"] for line in workspace.runs()].count("mended") == 1


def end_of_run(daemon: Daemon, job_id: str, old_run: str) -> str:
    """How the run after `old_run` ended."""
    workspace = daemon.workspace

    def ended() -> bool:
        status = workspace.status(job_id)
        return status is not None and status["pipelineId"] != old_run and status["state"] in {"done", "error"}

    wait_until(ended, 20, f"the new run of {job_id}", daemon)
    return str(workspace.state(job_id))


def test_a_complete_job_can_be_run_again(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """Wholly, from a task, or one task only; each run has its own id and its own line of runs.jsonl."""
    workspace.add_pipeline("again", dict.fromkeys(("one", "two", "three"), COUNTS))
    status = run(daemon, "again", "again")
    counts = [1, 1, 1]
    for words, added in (
        ((), [1, 1, 1]), (("--from", "two"), [0, 1, 1]), (("--from", "two", "--only"), [0, 1, 0]),
    ):  # fmt: skip
        old_run = status["pipelineId"]
        assert popctl("restart", "again", *words).code == 0
        assert end_of_run(daemon, "again", old_run) == "done"
        wait_until(lambda: workspace.is_complete("again"), 10, "the move", daemon)
        tmp = place_of(workspace, "again") / "files" / "tmp"
        counts = [count + more for count, more in zip(counts, added, strict=True)]
        seen = [len((tmp / f"runs-{name}").read_text(encoding="utf-8")) for name in ("one", "two", "three")]
        assert seen == counts, words
        status = workspace.status("again") or {}
    lines = [line for line in workspace.runs() if line["id"] == "again"]
    assert len(lines) == len({line["pipelineId"] for line in lines}) == 4
    assert not (workspace.data / "current" / "again").exists()


def test_restart_is_refused_where_it_makes_no_sense(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """Of a job that runs, and from a task there is not."""
    workspace.drop("busy", {"data": {}, "pipeline": "hangs"})
    wait_until(lambda: (workspace.status("busy") or {}).get("currentStage") == "ingestion", 10, "it to run", daemon)
    assert popctl("restart", "busy").code == 1
    assert popctl("stop", "busy").code == 0
    run(daemon, "idle", GOOD)
    refused = popctl("restart", "idle", "--from", "no-such-task")
    assert refused.code in {1, 4}
    assert "no-such-task" in refused.err
    assert workspace.is_complete("idle")


def test_a_restart_that_waits_for_a_slot_is_not_begun_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the only slot taken: the second restart is refused, and the first one keeps its run id to the end."""
    workspace = quick_workspace(tmp_path)
    workspace.settings("[http]\nport = 0\n[jobs]\nmax_running = 1\n")
    workspace.add_pipeline("hangs", {"hangs": HANGS})
    popctl = Popctl(workspace.root, capsys, monkeypatch)
    with Daemon(workspace) as daemon:
        first = run(daemon, "queued", GOOD)
        workspace.drop("holds-slot", {"data": {}, "pipeline": "hangs"})
        wait_until(lambda: workspace.state("holds-slot") == "running", 10, "the slot to be taken", daemon)
        assert popctl("restart", "queued").code == 0
        waiting = popctl("--json", "status", "queued").document
        assert (waiting["state"], waiting["pipelineId"] != first["pipelineId"]) == ("pending", True)
        assert popctl("restart", "queued").code == 1
        assert popctl("stop", "holds-slot").code == 0
        assert end_of_run(daemon, "queued", first["pipelineId"]) == "done"
        assert [line["pipelineId"] for line in workspace.runs()] == [first["pipelineId"], waiting["pipelineId"]]


def test_a_stopped_job_can_be_restarted(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """After the cause of the stop is gone."""
    gate = workspace.root / "gate-stopped"
    source = f"import os, time\ndef ingestion(ctx):\n    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    workspace.add_pipeline("stoppable", {"waits": source + "    return {'output': 1}\n", "then": NOOP_TASK})
    workspace.drop("stopped", {"data": {}, "pipeline": "stoppable"})
    wait_until(lambda: (workspace.status("stopped") or {}).get("currentStage") == "ingestion", 10, "it", daemon)
    assert popctl("stop", "stopped").code == 0
    old = workspace.status("stopped") or {}
    gate.touch()
    assert popctl("restart", "stopped").code == 0
    assert end_of_run(daemon, "stopped", old["pipelineId"]) == "done"


def test_pause_holds_seeds_back_and_resume_lets_them_go(popctl: Popctl, daemon: Daemon, workspace: Workspace) -> None:
    """Without JOB: claiming stops and starts; the seeds wait in pending/."""
    assert popctl("pause").code == 0
    try:
        workspace.drop("held-back")
        wait_until(
            lambda: "held-back" in {job["id"] for job in popctl("--json", "list").document}, 10, "the seed", daemon
        )
        assert (workspace.data / "pending" / "held-back-seed.json").exists()
        assert popctl("--json", "status", "held-back").document["state"] == "pending"
    finally:
        assert popctl("resume").code == 0
    assert end_of(daemon, "held-back") == "done"


def test_scaffolds_make_a_workspace_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """init, new-pipeline and new-task, then popd on it; a second init overwrites nothing."""
    popctl = Popctl(tmp_path / "mine", capsys, monkeypatch)
    assert popctl("init", str(tmp_path / "mine")).code == 0
    assert popctl("new-pipeline", "letters").code == 0
    assert popctl("new-task", "letters", "write").code == 0
    pipeline = tmp_path / "mine" / "pipeline-config" / "letters" / "pipeline.json"
    assert "write" in json.dumps(json.loads(pipeline.read_bytes()))
    content = pipeline.read_bytes()
    popctl("init", str(tmp_path / "mine"))
    popctl("new-pipeline", "letters")
    assert pipeline.read_bytes() == content
    workspace = Workspace(tmp_path / "mine")
    with Daemon(workspace) as daemon:
        workspace.drop("first-letter", {"data": {}, "pipeline": "letters"})
        assert end_of(daemon, "first-letter") == "done", workspace.status("first-letter")
