"""A run that was broken off goes on where it was: nothing that was finished runs again, whatever the moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runner_world import NOTE, ProcessDied, World

from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.messages import Stop

TASK = (
    NOTE
    + """
def ingestion(ctx):
    note(ctx, "ingestion")
    ctx.io.write_artifact(f"{ctx.meta.task_name}.txt", "x")
    return {"output": {"n": 1}, "flags": {"seen": True}}
def parsing(ctx):
    note(ctx, "parsing")
    print("parsing", ctx.meta.round)
    return {"output": {"n": ctx.output["n"] + 1, "tasks": ctx.data["tasks"]}}
def validate_quality(ctx):
    note(ctx, "validateQuality")
    return {"output": None, "flags": {"needsRefinement": ctx.meta.round < 1}}
def refine(ctx):
    note(ctx, "refine")
    reply = ctx.llm.chat("better")
    return {"output": {"n": ctx.output["n"] * 10, "reply": reply.content}}
def integration(ctx):
    note(ctx, "integration")
    return {"output": {"final": ctx.output, "flags": ctx.flags}}
"""
)
RAN = ["ingestion.0", "parsing.0", "validateQuality.0", "refine.1", "parsing.1", "validateQuality.1", "integration.1"]


def two_tasks(folder: Path) -> World:
    world = World(folder)
    world.task("a", TASK)
    world.task("b", TASK)
    return world


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same job, never broken off."""
    world = two_tasks(tmp_path_factory.mktemp("whole"))
    world.run()
    return world


EVENTS = 44  # of the whole run; the sweep below checks that it is no less


def same_as(world: World, whole: World) -> None:
    assert world.status["state"] == "done"
    assert dict(world.stages_run()) == {f"{task}.{ran}": 1 for task in "ab" for ran in RAN}
    assert [world.output(task) for task in "ab"] == [whole.output(task) for task in "ab"]
    assert len(world.gateway.bought) == 2
    for task in "ab":
        mine, other = world.status["tasks"][task], whole.status["tasks"][task]
        assert {kind: sorted(names) for kind, names in mine["files"].items()} == {
            kind: sorted(names) for kind, names in other["files"].items()
        }
        assert (mine["state"], mine["attempts"], mine["refinementAttempts"]) == ("done", 1, 1)
        logs = [[entry["stage"], entry["round"]] for entry in world.paper(task, "execution-logs.json")]
        assert logs == [[entry["stage"], entry["round"]] for entry in whole.paper(task, "execution-logs.json")]
        assert len(world.paper(task, "letter.json")["calls"]) == 1


def test_the_sweep_covers_the_whole_run(whole: World) -> None:
    """Every event of the run is a moment at which the process dies below."""
    assert whole.status_writer.count == EVENTS
    same_as(whole, whole)


@pytest.mark.parametrize("moment", range(EVENTS))
def test_after_a_death_at_any_event_no_stage_runs_twice(tmp_path: Path, whole: World, moment: int) -> None:
    """Just before the event is recorded, and just after."""
    for when in ("before", "after"):
        world = two_tasks(tmp_path / when)
        if when == "before":
            world.status_writer.dies_before = moment
        else:
            world.status_writer.dies_after = moment + 1
        with pytest.raises(ProcessDied):
            world.run()
        if world.status["state"] != "done":
            world.die_and_resume()
        same_as(world, whole)


def test_a_job_that_dies_again_and_again_still_comes_to_its_end(tmp_path: Path, whole: World) -> None:
    """Each process lives for a few events, a few more each time."""
    world = two_tasks(tmp_path)
    deaths = 0
    world.status_writer.dies_after = 3
    with pytest.raises(ProcessDied):
        world.run()
    while world.status["state"] != "done":
        deaths += 1
        world.status_writer.record(e.ProcessDown(at=timestamp(0), cause="signal"))
        world.status_writer.dies_after = world.status_writer.count + 4 + deaths
        try:
            world.run()
        except ProcessDied:
            assert deaths < EVENTS
    same_as(world, whole)
    assert deaths > 5


def test_after_kill_9_in_a_stage_that_stage_alone_runs_again(tmp_path: Path) -> None:
    """A real process, killed by its own task after it had paid for a reply; the reply is replayed."""
    source = (
        NOTE
        + """
import os, signal
def ingestion(ctx):
    note(ctx, "ingestion"); print("before"); return {"output": 1}
def inference(ctx):
    note(ctx, "inference")
    if ctx.config.get("kill"): os.kill(os.getpid(), signal.SIGKILL)
    return {"output": ctx.output + 1}
"""
    )
    script = f"""
import sys
from pathlib import Path
from runner_world import World
world = World(Path({str(tmp_path)!r}))
world.task("a", {source!r}, config={{"kill": True}})
world.run()
"""
    path = [str(Path(__file__).parent), *sys.path]
    killed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{script}"], timeout=60, check=False
    )
    assert killed.returncode == -9
    world = World(tmp_path)
    world.task("a", source)
    assert world.directory.runner_pid.exists()
    world.epoch = 1
    world.status_writer.last = (1, 10**6)
    world.die_and_resume()
    assert world.output("a") == 2
    assert dict(world.stages_run()) == {"a.ingestion.0": 1, "a.inference.0": 2}
    assert world.status["tasks"]["a"]["attempts"] == 1


def test_a_stage_the_daemon_ended_for_its_time_is_a_failed_attempt(world: World) -> None:
    """The process was killed with cause `timeout`: the open stage is to blame, and the next attempt begins."""
    world.task("a", "def inference(ctx): return {'output': ctx.meta.attempt}", stage_timeout=5.0)
    world.status_writer.dies_after = 5  # JobStarted, TaskStarted, two for load, and the start of inference
    with pytest.raises(ProcessDied):
        world.run()
    assert world.events[-1]["stage"] == "inference"
    world.die_and_resume("timeout")
    assert [(event["reason"], event["stage"]) for event in world.seen("AttemptFailed")] == [("timeout", "inference")]
    assert world.output("a") == 2
    assert world.checkpoint("a")[0]["ms"] == 5000.0


def test_a_timeout_on_the_last_attempt_fails_the_task(world: World) -> None:
    """Reason `timeout`, counted once although the process did not live to tell it."""
    world.task("a", "def inference(ctx): return {'output': 1}", max_attempts=1)
    world.status_writer.dies_after = 5
    with pytest.raises(ProcessDied):
        world.run()
    world.die_and_resume("timeout")
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("timeout", "inference")
    assert world.status["tasks"]["a"]["attempts"] == 1


@pytest.mark.parametrize("moment", range(5, 12))
def test_attempts_are_counted_once_whenever_the_process_dies(world: World, moment: int) -> None:
    """An attempt that failed, but whose failure was not recorded, is neither repeated nor forgotten."""
    world.task(
        "a",
        NOTE
        + "\ndef parsing(ctx):\n    note(ctx, f'{ctx.meta.attempt}')\n    raise ValueError(str(ctx.meta.attempt))\n",
        max_attempts=2,
    )
    world.status_writer.dies_before = moment
    with pytest.raises(ProcessDied):
        world.run()
    world.die_and_resume()
    assert dict(world.stages_run()) == {"a.1.0": 1, "a.2.0": 1}
    assert len(world.seen("AttemptFailed")) == 1
    assert world.status["tasks"]["a"]["attempts"] == 2
    assert world.status["error"]["message"] == "2"


def test_a_suspended_job_goes_on_at_the_next_stage(world: World) -> None:
    """The stage at work is finished, no other starts; the next process begins with the one after it."""
    world.task("a", TASK)

    def suspend(event: Any) -> None:
        if event.type == "StageStarted" and event.stage == "parsing" and event.round == 0:
            world.mailbox.put(Stop(suspend=True))
            assert world.actor._suspending.wait(10)

    world.status_writer.watch = suspend
    world.run()
    assert world.events[-1]["type"] == "JobSuspended"
    assert list(world.stages_run()) == ["a.ingestion.0", "a.parsing.0"]
    assert not world.directory.runner_pid.exists()
    assert world.status["state"] == "pending"
    world.run()
    assert world.status["state"] == "done"
    assert dict(world.stages_run()) == {f"a.{ran}": 1 for ran in RAN}


def test_a_pause_between_attempts_does_not_hold_up_a_suspension(world: World) -> None:
    """The job leaves at once, and the next process waits for what is left of the pause."""
    world.task(
        "a", "def parsing(ctx):\n    if ctx.meta.attempt == 1: raise ValueError\n    return {'output': 'second'}"
    )
    world.spec["retry_backoff_seconds"] = 30.0

    def suspend(event: Any) -> None:
        if event.type == "AttemptFailed":
            world.mailbox.put(Stop(suspend=True))

    world.status_writer.watch = suspend
    world.run()
    assert world.events[-1]["type"] == "JobSuspended"
    log = world.directory.events
    log.write_text(log.read_text().replace('"retryIn":', '"retryIn":0.0,"was":'))
    world.run()
    assert world.output("a") == "second"
    assert world.status["tasks"]["a"]["attempts"] == 2


def test_a_restart_from_a_task_keeps_the_outputs_before_it(world: World) -> None:
    """A new run of b and what follows; a does not run again, and b gets its output."""
    world.task("a", NOTE + "\ndef parsing(ctx):\n    note(ctx, 'parsing')\n    return {'output': 'from a'}")
    world.task("b", NOTE + "\ndef parsing(ctx):\n    note(ctx, 'parsing')\n    return {'output': ctx.data['tasks']}")
    world.run()
    world.status_writer.record(
        e.JobRestarted(at=timestamp(2_000_000_000), run_id="pl-2", reset=("b",), tasks=("a", "b"))
    )
    world.spec["run_id"] = "pl-2"
    world.run()
    assert dict(world.stages_run()) == {"a.parsing.0": 1, "b.parsing.0": 2}
    assert world.output("b") == {"a": "from a"}
    assert [line["runId"] for line in world.checkpoint("b")] == ["pl-1", "pl-2"]
    assert world.seen("JobStarted")[-1]["resumed"] is False


def test_an_edit_between_death_and_resume_runs_only_what_is_left(world: World) -> None:
    """Finished stages keep what they gave; the others run as they are now."""
    world.task(
        "a", "def ingestion(ctx): return {'output': 1}\ndef parsing(ctx): return {'output': [ctx.output, 'old']}"
    )
    world.status_writer.dies_after = 7
    with pytest.raises(ProcessDied):
        world.run()
    assert (world.events[-1]["type"], world.events[-1]["stage"]) == ("StageStarted", "parsing")
    Path(world.modules["a"]).write_text(
        "def ingestion(ctx): return {'output': 2}\ndef parsing(ctx): return {'output': [ctx.output, 'new']}"
    )
    world.die_and_resume()
    assert world.output("a") == [1, "new"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to itself"])
@pytest.mark.parametrize("file", ["letter.json", "output.json", "execution-logs.json", "checkpoint.jsonl"])
def test_what_lies_in_the_way_of_a_tasks_files_is_put_aside(world: World, file: str, kind: str) -> None:
    """The run goes on; a stage whose checkpoint it was runs again, and its calls are replayed."""
    world.task(
        "a",
        """
        def ingestion(ctx): return {"output": ctx.llm.chat("a").content}
        def parsing(ctx): return {"output": ctx.llm.chat("b").content}
        def integration(ctx): return {"output": ctx.output}
        """,
    )
    world.status_writer.dies_after = 5
    with pytest.raises(ProcessDied):
        world.run()
    path = world.directory.task("a").path / file
    path.unlink(missing_ok=True)
    if kind == "folder":
        (path / "inside").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    world.die_and_resume()
    assert world.status["state"] == "done"
    assert path.is_file()
    assert os.path.lexists(f"{path}.damaged-1")
    assert len(world.gateway.bought) == 2
