"""A run that is taken up again after its code was edited says so, and does what `jobs.on_code_change` wants."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import end_of, quick_workspace

from support.daemon import Daemon, wait_until

SECONDS = 30.0
TASK = """
import os, time
import shared

VERSION = "v1"

def trace(ctx, stage):
    line = f"{ctx.meta.task_name}.{stage}.{ctx.meta.attempt}.{VERSION}.{shared.VERSION}\\n"
    with open(ctx.data["seed"]["data"]["trace"], "a") as file:
        file.write(line)

def ingestion(ctx):
    trace(ctx, "ingestion")
    return {"output": ctx.llm.chat("a question").content}

def parsing(ctx):
    trace(ctx, "parsing")
    while ctx.meta.task_name == "second" and not os.path.exists(ctx.data["seed"]["data"]["release"]):
        time.sleep(0.01)
    return {"output": "parsed"}
"""
PLAIN = "def ingestion(ctx):\n    return {'output': 3}\n"


class Run:
    """A job that is in the middle of its second of three tasks, and what it leaves outside of its directory."""

    def __init__(self, root: Path, on_code_change: str | None) -> None:
        setting = "" if on_code_change is None else f'on_code_change = "{on_code_change}"\n'
        self.workspace = quick_workspace(root)
        self.workspace.settings((root / "pop.toml").read_text().replace("[jobs]\n", f"[jobs]\n{setting}"))
        self.workspace.add_pipeline("edited", {"first": TASK, "second": TASK, "third": PLAIN})
        self.tasks = root / "pipeline-config" / "edited" / "tasks"
        self.edit("shared", 'VERSION = "s1"\n')
        self.trace, self.release = root / "trace", root / "release"

    def begin(self, daemon: Daemon) -> None:
        """Until the second task is in its second stage."""
        places = {"trace": str(self.trace), "release": str(self.release)}
        self.workspace.drop("a", {"pipeline": "edited", "data": places})
        wait_until(lambda: "second.parsing.1.v1.s1" in self.traced(), SECONDS, "the second task", daemon)

    def edit(self, name: str, source: str) -> None:
        (self.tasks / f"{name}.py").write_text(source, encoding="utf-8")

    def traced(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    def status(self) -> dict[str, Any]:
        return self.workspace.status("a") or {}

    def log(self, name: str, kind: str) -> list[dict[str, Any]]:
        place = next(path for where in ("current", "complete") if (path := self.workspace.data / where / "a").is_dir())
        return [line for line in self.workspace.lines(place / name) if line["type"] == kind]

    def let_it_end(self, daemon: Daemon) -> dict[str, Any]:
        self.release.touch()
        assert end_of(daemon, "a") == "done"
        return self.status()


SECOND_V2 = TASK.replace('"v1"', '"v2"')
SHARED_V2 = 'VERSION = "s2"\n'
SECOND_FILE = "pipeline-config/edited/tasks/second.py"


@pytest.mark.parametrize("killed", ["job", pytest.param("daemon", marks=pytest.mark.faults)])
def test_an_edit_counts_from_the_next_stage_and_is_told(tmp_path: Path, killed: str) -> None:
    """In the log, the status and the service's log, whoever died; finished stages stay as they are."""
    run = Run(tmp_path, None)
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        run.edit("second", SECOND_V2)
        if killed == "job":
            os.kill(int((run.workspace.data / "current/a/runner.pid").read_text()), signal.SIGKILL)
            status = run.let_it_end(daemon)
        else:
            daemon.kill()
    if killed == "daemon":
        with Daemon(run.workspace) as daemon:
            status = run.let_it_end(daemon)
    assert run.traced()[2:] == ["second.ingestion.1.v1.s1", "second.parsing.1.v1.s1", "second.parsing.1.v2.s1"]
    (told,) = run.log("events.jsonl", "CodeChanged")
    assert (told["tasks"], told["files"], told["action"]) == (["second"], [SECOND_FILE], "continue")
    assert status["codeChanged"] == {key: told[key] for key in ("at", "tasks", "files", "action")}
    assert (status["restarts"], status["tasks"]["second"]["attempts"]) == (1, 1)
    assert "code changed" in daemon.text_of_log()


@pytest.mark.parametrize("edited", ["second", pytest.param("shared", marks=pytest.mark.faults)])
def test_an_edited_task_can_begin_anew(tmp_path: Path, edited: str) -> None:
    """With `restart_task`: a new attempt from its first stage, its calls bought anew; tasks that are done stay done.
    An edit of what it imports counts as one of its own."""
    run = Run(tmp_path, "restart_task")
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        daemon.kill()
    run.edit(edited, SECOND_V2 if edited == "second" else SHARED_V2)
    with Daemon(run.workspace) as daemon:
        status = run.let_it_end(daemon)
    version = "v2.s1" if edited == "second" else "v1.s2"
    assert run.traced()[4:] == [f"second.ingestion.2.{version}", f"second.parsing.2.{version}"]
    paid = [(line["task"], line["attempt"]) for line in run.log("llm-calls.jsonl", "paid")]
    assert paid == [("first", 1), ("second", 1), ("second", 2)]
    assert [status["tasks"][name]["attempts"] for name in ("first", "second", "third")] == [1, 2, 1]
    (told,) = run.log("events.jsonl", "CodeChanged")
    assert (told["tasks"], told["action"]) == (["second"], "restart_task")


@pytest.mark.faults
def test_a_task_whose_code_stayed_does_not_begin_anew(tmp_path: Path) -> None:
    """The file of a task that is done, and of one that has not begun, were edited: the one at work goes on."""
    run = Run(tmp_path, "restart_task")
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        daemon.kill()
    run.edit("first", SECOND_V2)
    run.edit("third", PLAIN.replace("3", "4"))
    with Daemon(run.workspace) as daemon:
        status = run.let_it_end(daemon)
    assert run.traced()[4:] == ["second.parsing.1.v1.s1"]
    assert status["tasks"]["second"]["attempts"] == 1
    assert status["codeChanged"]["tasks"] == ["third"]
    assert len(status["codeChanged"]["files"]) == 2


@pytest.mark.parametrize("decision", ["approve", pytest.param("reject", marks=pytest.mark.faults)])
def test_a_run_can_wait_for_somebody_to_look_at_the_edit(tmp_path: Path, decision: str) -> None:
    """With `wait`: it waits before anything runs on the new code, also after another kill; approved it goes on,
    rejected it ends."""
    run = Run(tmp_path, "wait")
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        daemon.kill()
    run.edit("second", SECOND_V2)
    with Daemon(run.workspace) as daemon:
        wait_until(lambda: run.status()["state"] == "waiting", SECONDS, "the job to wait", daemon)
        daemon.kill()
    with Daemon(run.workspace) as daemon:
        gate = run.status()["gate"]
        assert (gate["task"], gate["reason"]) == (None, "code")
        assert SECOND_FILE in gate["message"]
        assert len(run.traced()) == 4
        daemon.ctl(decision, "a")
        if decision == "approve":
            run.let_it_end(daemon)
            assert run.traced()[4:] == ["second.parsing.1.v2.s1"]
        else:
            assert (run.status()["state"], run.status()["error"]["reason"]) == ("error", "control")
    assert len(run.log("events.jsonl", "CodeChanged")) == 1


@pytest.mark.faults
def test_nothing_is_said_where_nothing_changed(tmp_path: Path) -> None:
    """Touched files, the registry's pipeline.json, which counts for later runs, and a new run are no change."""
    run = Run(tmp_path, "wait")
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        daemon.kill()
    os.utime(run.tasks / "second.py", (1, 1))
    pipeline = run.tasks.parent / "pipeline.json"
    pipeline.write_text(pipeline.read_text().replace('"version": "1"', '"version": "2"'))
    with Daemon(run.workspace) as daemon:
        run.let_it_end(daemon)
        run.edit("second", SECOND_V2)
        daemon.ctl("restart", "a")
        wait_until(lambda: len(run.workspace.runs()) == 2, SECONDS, "the second run", daemon)
    assert run.log("events.jsonl", "CodeChanged") == []
    assert run.status()["codeChanged"] is None


def test_an_unknown_policy_stops_the_start(tmp_path: Path) -> None:
    """With the key, the value and what is allowed."""
    run = Run(tmp_path, "shrug")
    daemon = Daemon(run.workspace)
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(SECONDS) == 2
    log = daemon.text_of_log()
    assert all(word in log for word in ("on_code_change", "shrug", "restart_task"))


@pytest.mark.faults
def test_edits_are_found_in_packages_beside_the_tasks(tmp_path: Path) -> None:
    """What a task imports from a package, however deep, is its code as well."""
    run = Run(tmp_path, "restart_task")
    package = run.tasks / "parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text('VERSION = "s1"\n')
    run.edit("shared", "from parts.deep import VERSION\n")
    with Daemon(run.workspace) as daemon:
        run.begin(daemon)
        daemon.kill()
    (package / "deep.py").write_text(SHARED_V2)
    with Daemon(run.workspace) as daemon:
        run.let_it_end(daemon)
    assert run.traced()[4:] == ["second.ingestion.2.v1.s2", "second.parsing.2.v1.s2"]
