"""Retries, dependencies, optional and skipped tasks, refinement: what a run does with tasks that behave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import end_of, output_of, place_of, quick_workspace, read_json, run

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

FAILS_ONCE = """
def ingestion(ctx):
    ctx.io.write_tmp('attempts.txt', f'{ctx.meta.attempt} ', mode='append')
    return {'output': 1}

def parsing(ctx):
    if ctx.meta.attempt == 1:
        raise RuntimeError('the first time')
    return {'output': ctx.io.read_tmp('attempts.txt')}
"""
ALWAYS_FAILS = "def ingestion(ctx):\n    raise RuntimeError('always')\n"
REFINES = """
def ingestion(ctx):
    return {'output': ['ingestion']}

def _say(ctx, name):
    return {'output': [*ctx.output, f'{name} {ctx.meta.round}']}

def critique(ctx): return _say(ctx, 'critique')
def refine(ctx): return _say(ctx, 'refine')
def parsing(ctx): return _say(ctx, 'parsing')
def validate_structure(ctx): return {'output': 'looked', 'flags': {'validationFailed': False}}
def validate_quality(ctx): return {'output': 'judged', 'flags': {'needsRefinement': ctx.meta.round < ROUNDS}}
def final_validation(ctx): return {'output': f'final {ctx.meta.round}'}
def integration(ctx):
    final = [ctx.data['finalValidation']] if 'finalValidation' in ctx.data else []
    return {'output': [*ctx.output, *final]}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(quick_workspace(tmp_path_factory.mktemp("order"))) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


def test_a_task_that_fails_once_succeeds_at_its_second_attempt(daemon: Daemon, workspace: Workspace) -> None:
    """Two attempts, each from the first stage; nothing of the failure is left in the status."""
    workspace.add_pipeline("retries", {"flaky": FAILS_ONCE})
    status = run(daemon, "retried", "retries")
    task = status["tasks"]["flaky"]
    assert (status["state"], status["error"]) == ("done", None)
    assert (task["state"], task["attempts"]) == ("done", 2)
    assert "error" not in task
    assert "failedStage" not in task
    assert output_of(workspace, "retried", "flaky") == "1 2 "
    assert workspace.runs()[-1]["attempts"] == 2


def test_attempts_are_limited_and_counted(daemon: Daemon, workspace: Workspace) -> None:
    """maxAttempts of the entry, else of the settings (3)."""
    entries = [{"name": "always", "maxAttempts": 2}]
    workspace.add_pipeline("gives-up", {"always": ALWAYS_FAILS}, entries)
    assert run(daemon, "two-attempts", "gives-up")["tasks"]["always"]["attempts"] == 2
    workspace.add_pipeline("gives-up-later", {"always": ALWAYS_FAILS})
    status = run(daemon, "three-attempts", "gives-up-later")
    assert (status["state"], status["tasks"]["always"]["attempts"]) == ("error", 3)


def test_an_optional_task_may_fail(daemon: Daemon, workspace: Workspace) -> None:
    """The job is done; the task's own state says error; what depends on it runs without its output."""
    after = "def ingestion(ctx):\n    return {'output': sorted(ctx.data['tasks'])}\n"
    entries = [{"name": "fails", "optional": True, "maxAttempts": 1}, "after"]
    workspace.add_pipeline("forgiving", {"fails": ALWAYS_FAILS, "after": after}, entries)
    status = run(daemon, "forgiven", "forgiving")
    assert (status["state"], status["progress"], status["error"]) == ("done", 100, None)
    assert status["tasks"]["fails"]["state"] == "error"
    assert status["tasks"]["fails"]["error"]["message"] == "always"
    assert output_of(workspace, "forgiven", "after") == []
    assert workspace.runs()[-1]["finalArtifacts"] == ["after"]


def test_tasks_after_a_failed_one_do_not_run(daemon: Daemon, workspace: Workspace) -> None:
    """The job stays in current/ with the rest pending."""
    entries: list[Any] = [{"name": "fails", "maxAttempts": 1}, "after"]
    workspace.add_pipeline("strict", {"fails": ALWAYS_FAILS, "after": NOOP_TASK}, entries)
    status = run(daemon, "held-up", "strict")
    assert status["state"] == "error"
    assert status["tasks"]["after"]["state"] == "pending"
    assert status["tasks"]["after"]["attempts"] == 0
    assert not (place_of(workspace, "held-up") / "tasks" / "after" / "output.json").exists()


MEETS = """
import time, pathlib

def ingestion(ctx):
    here = pathlib.Path(ctx.io.get_task_dir())
    here.joinpath('here').touch()
    other = here.parent / OTHER / 'here'
    until = time.monotonic() + 10
    while not other.exists():
        if time.monotonic() > until:
            raise RuntimeError('the other never came')
        time.sleep(0.005)
    return {'output': sorted(ctx.data['tasks'])}
"""


def test_tasks_without_dependencies_run_at_the_same_time(daemon: Daemon, workspace: Workspace) -> None:
    """`dependsOn: []` starts at once: two tasks meet; a third waits for both and sees both outputs."""
    tasks = {"left": f"OTHER = 'right'\n{MEETS}", "right": f"OTHER = 'left'\n{MEETS}"}
    tasks["join"] = "def ingestion(ctx):\n    return {'output': sorted(ctx.data['tasks'])}\n"
    entries = [
        {"name": "left", "dependsOn": []},
        {"name": "right", "dependsOn": []},
        {"name": "join", "dependsOn": ["left", "right"]},
    ]
    workspace.add_pipeline("fork-join", tasks, entries)
    assert run(daemon, "forked", "fork-join")["state"] == "done"
    assert output_of(workspace, "forked", "left") == []
    assert output_of(workspace, "forked", "join") == ["left", "right"]


def test_skipped_tasks_are_skipped_and_the_rest_runs(daemon: Daemon, workspace: Workspace) -> None:
    """`skip` in the seed: state skipped, no output, no attempt."""
    workspace.add_pipeline("three", dict.fromkeys(("one", "two", "three"), NOOP_TASK))
    status = run(daemon, "skips", "three", skip=["two"])
    assert [task["state"] for task in status["tasks"].values()] == ["done", "skipped", "done"]
    assert status["tasks"]["two"]["attempts"] == 0
    assert status["state"] == "done"
    assert not (place_of(workspace, "skips") / "tasks" / "two" / "output.json").exists()


def test_a_seed_waits_for_the_job_it_depends_on(daemon: Daemon, workspace: Workspace) -> None:
    """It stays in pending/ until that job is complete, however high its priority; a cycle of two waits for ever."""
    workspace.drop("second", {"data": {}, "dependsOn": ["first"], "priority": 100})
    for number in range(3):
        run(daemon, f"meanwhile-{number}", "good")
    assert (workspace.data / "pending" / "second-seed.json").exists()
    run(daemon, "first", "good")
    assert end_of(daemon, "second") == "done"
    order = [line["id"] for line in workspace.runs()]
    assert order.index("first") < order.index("second")


WAITS = """
import os, time
def ingestion(ctx):
    while not os.path.exists(GATE): time.sleep(0.005)
    return {'output': 1}
"""


def test_seeds_that_conflict_never_run_at_once(daemon: Daemon, workspace: Workspace) -> None:
    """The second waits in pending/ while the first holds what both want; others pass."""
    gate = workspace.root / "gate-conflict"
    workspace.add_pipeline("waits", {"waits": f"GATE = {str(gate)!r}\n{WAITS}"})
    workspace.drop("holds", {"data": {}, "pipeline": "waits", "conflicts": ["repo:site"]})
    wait_until(lambda: workspace.state("holds") == "running", 10, "the first to run", daemon)
    workspace.drop("wants", {"data": {}, "conflicts": ["repo:site", "other"]})
    run(daemon, "passes", "good", conflicts=["else"])
    assert (workspace.data / "pending" / "wants-seed.json").exists()
    gate.touch()
    assert end_of(daemon, "wants") == "done"
    assert end_of(daemon, "holds") == "done"


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_refinement_goes_round_as_drawn(daemon: Daemon, workspace: Workspace, rounds: int) -> None:
    """critique, refine, parsing, both validations while needsRefinement; finalValidation only after a round."""
    slug = f"refines-{rounds}"
    workspace.add_pipeline(slug, {"draft": f"ROUNDS = {rounds}\n{REFINES}"})
    status = run(daemon, slug, slug)
    task = status["tasks"]["draft"]
    assert (status["state"], task["refinementAttempts"]) == ("done", rounds)
    said = [f"{stage} {n}" for n in range(1, rounds + 1) for stage in ("critique", "refine", "parsing")]
    last = [f"final {rounds}"] if rounds else []
    assert output_of(workspace, slug, "draft") == ["ingestion", "parsing 0", *said, *last]
    entries = read_json(place_of(workspace, slug) / "tasks" / "draft" / "execution-logs.json")
    skipped = [entry["stage"] for entry in entries if entry.get("skipped")]
    assert skipped[:3] == ["preProcessing", "promptTemplating", "inference"]
    assert set(skipped[3:]) == ({"critique", "refine", "finalValidation"} if not rounds else set())


def test_config_files_database_and_batches_work(daemon: Daemon, workspace: Workspace) -> None:
    """ctx.config is merged; ctx.io writes, appends and reads; get_db keeps; run_batch keeps the order."""
    source = """
def ingestion(ctx):
    ctx.io.write_artifact("a.json", {"x": 1})
    ctx.io.write_artifact("sub/b.txt", "text")
    ctx.io.write_log("own.log", "one\\n")
    ctx.io.write_log("own.log", "two\\n", mode="append")
    ctx.io.write_tmp("t.bin", b"\\x00\\xff")
    db = ctx.io.get_db()
    db.execute("create table t (n)")
    db.execute("insert into t values (7)")
    batch = ctx.io.run_batch([3, 1, 2], lambda n: n * 10, concurrency=2, max_retries=1)
    valid = ctx.validators.validate_with_schema({"type": "object", "required": ["a"]}, {})
    return {"output": {"config": ctx.config, "batch": batch, "valid": valid.valid, "errors": len(valid.errors)}}

def parsing(ctx):
    rows = ctx.io.get_db().execute("select n from t").fetchall()
    return {"output": {**ctx.output, "rows": [row[0] for row in rows], "log": ctx.io.read_log("own.log"),
                       "meta": [ctx.meta.task_name, ctx.meta.job_id, ctx.meta.attempt, ctx.meta.round, ctx.meta.mode]}}
"""
    workspace.add_pipeline(
        "tools", {"uses": source}, [{"name": "uses", "config": {"a": 2, "b": {"c": 3}}}],
        taskConfig={"uses": {"a": 1, "z": 26}},
    )  # fmt: skip
    status = run(daemon, "tooled", "tools")
    assert output_of(workspace, "tooled", "uses") == {
        "config": {"a": 2, "b": {"c": 3}, "z": 26},
        "batch": [30, 10, 20],
        "valid": False,
        "errors": 1,
        "rows": [7],
        "log": "one\ntwo\n",
        "meta": ["uses", "tooled", 1, 0, "production"],
    }
    files = {"artifacts": ["a.json", "sub/b.txt", "run.db"], "logs": ["own.log"], "tmp": ["t.bin"]}
    assert status["files"] == files
    assert status["tasks"]["uses"]["files"] == files
    on_disk = place_of(workspace, "tooled") / "files"
    for kind, names in files.items():
        assert {path.relative_to(on_disk / kind).as_posix() for path in (on_disk / kind).rglob("*.*")} == set(names)


def test_a_job_stopped_before_it_ran_gives_back_what_it_held(tmp_path: Path) -> None:
    """With the only slot taken, a job that waits is stopped: a seed that conflicts with it is not held up for ever."""
    workspace = quick_workspace(tmp_path)
    workspace.settings("[http]\nport = 0\n[jobs]\nmax_running = 1\n")
    gate = tmp_path / "gate"
    workspace.add_pipeline("waits", {"waits": f"GATE = {str(gate)!r}\n{WAITS}"})
    with Daemon(workspace) as daemon:
        workspace.drop("takes-the-slot", {"data": {}, "pipeline": "waits"})
        wait_until(lambda: workspace.state("takes-the-slot") == "running", 10, "the slot to be taken", daemon)
        workspace.drop("ahead", {"data": {}, "conflicts": ["key"]})
        wait_until(lambda: daemon.ctl("status", "ahead", check=False).returncode == 0, 10, "it to be known", daemon)
        if daemon.ctl("stop", "ahead", check=False).returncode != 0:
            (
                workspace.data / "pending" / "ahead-seed.json"
            ).unlink()  # a seed still: its file is the way to withdraw it
        workspace.drop("behind", {"data": {}, "conflicts": ["key"]})
        gate.touch()
        assert end_of(daemon, "behind") == "done"
        assert not workspace.is_complete("ahead")


def test_what_a_job_holds_it_still_holds_after_the_service_was_killed(tmp_path: Path) -> None:
    """A job that runs with a conflict key goes on after `kill -9` of popd; one that wants the same key still waits."""
    workspace = quick_workspace(tmp_path)
    gate = tmp_path / "gate"
    workspace.add_pipeline("waits", {"waits": f"GATE = {str(gate)!r}\n{WAITS}"})
    with Daemon(workspace) as daemon:
        workspace.drop("holds", {"data": {}, "pipeline": "waits", "conflicts": ["key"]})
        wait_until(lambda: workspace.state("holds") == "running", 10, "the first to run", daemon)
        workspace.drop("wants", {"data": {}, "conflicts": ["key"]})
        run(daemon, "passes", "good")
        daemon.kill()
    with Daemon(workspace) as daemon:
        wait_until(lambda: (workspace.status("holds") or {}).get("restarts") == 1, 10, "it to go on", daemon)
        run(daemon, "passes-again", "good")
        assert (workspace.data / "pending" / "wants-seed.json").exists()
        gate.touch()
        assert end_of(daemon, "wants") == "done"
        assert end_of(daemon, "holds") == "done"
