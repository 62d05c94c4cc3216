"""A run from its first stage to its end: order, data, papers, ends."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

import pytest
from runner_world import NOTE, World

from pop_actors.core.messages import Stop
from pop_actors.core.stages import STAGES
from pop_actors.errors import CallFailed
from support.daemon import wait_until

ONE = "def inference(ctx): return {'output': 'one'}"


def test_a_chain_of_tasks_runs_to_its_end(world: World) -> None:
    """Each task gets the final outputs of those before it; the run ends with one barrier less than there are ends."""
    world.task("a", ONE)
    world.task("b", "def parsing(ctx): return {'output': [ctx.data['tasks'], ctx.data['seed'], ctx.previous_stage]}")
    world.run()
    assert world.output("b") == [{"a": "one"}, {"data": {"topic": "tea"}}, "seed"]
    assert world.status["state"] == "done"
    assert world.status["progress"] == 100
    assert [task["attempts"] for task in world.status["tasks"].values()] == [1, 1]
    assert [types[-1] for types in world.status_writer.asked] == ["TaskDone", "JobDone"]
    assert world.status_writer.asked[-1][-2:] == ["TaskDone", "JobDone"]
    assert not world.directory.runner_pid.exists()
    assert not (world.directory.files("logs") / "process.log").exists()


def test_a_stage_costs_one_frame(world: World) -> None:
    """The end of a stage travels with the beginning of the next; a task begins with one frame, too."""
    world.task("a", "def ingestion(ctx): return {'output': 1}\ndef parsing(ctx): return {'output': 2}")
    world.run()
    assert world.status_writer.frames == 4  # load, ingestion, parsing, end


def test_the_process_says_who_runs_the_job_while_it_does(world: World) -> None:
    """runner.pid is there during the run and gone after it."""
    world.task("a", "def parsing(ctx): return {'output': (ctx.io.get_task_dir() / '../../runner.pid').read_text()}")
    world.run()
    assert world.output("a").split()[0] == str(os.getpid())
    assert not world.directory.runner_pid.exists()


ALL_STAGES = NOTE + "".join(
    f"""
def {re.sub("([A-Z])", lambda m: "_" + m[1].lower(), stage)}(ctx):
    note(ctx, "{stage}")
    flags = {{}}
    if "{stage}" == "validateQuality":
        flags = {{"needsRefinement": ctx.meta.round < ctx.config["wanted"]}}
    return {{"output": "{stage}" + str(ctx.meta.round), "flags": flags}}
"""
    for stage in STAGES
)


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_refinement_runs_whole_rounds_and_then_the_final_validation(world: World, rounds: int) -> None:
    """As often as quality asks for it; finalValidation only where a round ran; the output is the last that counts."""
    world.task("a", ALL_STAGES, config={"wanted": rounds})
    world.run()
    main = [f"a.{stage}.0" for stage in STAGES[:7]]
    again = ["critique", "refine", "parsing", "validateStructure", "validateQuality"]
    loop = [f"a.{stage}.{number}" for number in range(1, rounds + 1) for stage in again]
    end = ([f"a.finalValidation.{rounds}"] if rounds else []) + [f"a.integration.{rounds}"]
    assert list(world.stages_run().elements()) == main + loop + end
    assert world.output("a") == f"integration{rounds}"
    assert world.status["tasks"]["a"]["refinementAttempts"] == rounds
    skipped = [entry["stage"] for entry in world.paper("a", "execution-logs.json") if entry.get("skipped")]
    assert sorted(skipped) == ([] if rounds else ["critique", "finalValidation", "refine"])


def test_missing_stages_stand_in_the_logs_as_skipped_in_their_place(world: World) -> None:
    """Every stage has its entry, run or not."""
    world.task("a", ONE)
    world.run()
    entries = world.paper("a", "execution-logs.json")
    assert [entry["stage"] for entry in entries][:4] == ["ingestion", "preProcessing", "promptTemplating", "inference"]
    assert {entry["stage"] for entry in entries} == set(STAGES)
    assert [entry["stage"] for entry in entries if not entry.get("skipped")] == ["inference"]


def test_what_a_stage_changes_never_reaches_another_one(world: World) -> None:
    """Data, output, flags and config are copies, for each stage its own."""
    world.task(
        "a",
        """
        def ingestion(ctx):
            ctx.data["seed"]["data"]["topic"] = "spoilt"
            ctx.output["data"] = ctx.config["list"].append(2)
            return {"output": {"list": [1]}, "flags": {"f": [1]}}
        def pre_processing(ctx):
            ctx.output["list"].append(2); ctx.flags["f"].append(2); ctx.data["ingestion"]["list"].append(3)
            return {"output": ctx.previous_stage}
        def parsing(ctx):
            return {"output": [ctx.data, ctx.flags, ctx.config]}
        """,
        config={"list": [1]},
    )
    world.run()
    data, flags, config = world.output("a")
    assert data["seed"] == {"data": {"topic": "tea"}}
    assert data["ingestion"] == {"list": [1]}
    assert data["preProcessing"] == "ingestion"
    assert (flags, config) == ({"f": [1]}, {"list": [1]})


def test_the_output_of_a_validation_is_data_but_not_the_output(world: World) -> None:
    """The last output that is not from a validation stage is handed on, and is the task's."""
    world.task(
        "a",
        """
        from pop_actors.runner import StageContext, StageResult
        async def parsing(ctx: StageContext) -> StageResult: return StageResult("text", {"x": 1})
        def validate_structure(ctx):
            return {"output": ctx.validators.validate_with_schema({"type": "string"}, ctx.output)}
        def validate_quality(ctx): return {"output": [ctx.output, ctx.previous_stage, ctx.data["validateStructure"]]}
        """,
    )
    world.run()
    assert world.output("a") == "text"
    assert world.checkpoint("a")[-1]["output"] == ["text", "parsing", {"valid": True, "errors": []}]
    assert world.checkpoint("a")[-1]["flags"] == {"x": 1}


def test_calls_are_made_and_stand_in_the_letter(world: World) -> None:
    """With the pipeline's and the task's settings, one by one and in a batch."""
    world.spec["llm"] = {"provider": "offline", "model": "echo"}
    world.task(
        "a",
        """
        def inference(ctx):
            texts = ctx.io.run_batch(["x", "y"], lambda item: ctx.llm.chat(item).content)
            return {"output": [ctx.llm.chat([{"role": "user", "content": "hi"}]).content, *texts]}
        """,
        config={"temperature": 0.1},
    )
    world.run()
    assert world.output("a") == ["reply to hi", "reply to x", "reply to y"]
    assert {chat.request["temperature"] for chat in world.gateway.bought} == {0.1}
    letter = world.paper("a", "letter.json")
    assert [call["costUsd"] for call in letter["calls"]] == [0.5] * 3
    assert (letter["state"], letter["jobId"], letter["attempt"]) == ("done", "job-1", 1)


def test_files_and_logs_are_indexed_with_their_task(world: World) -> None:
    """What a task wrote and printed is in the status, by kind."""
    world.task(
        "a",
        """
        import os
        def parsing(ctx):
            print("hello"); ctx.log.debug("deep"); os.write(1, b"from C\\n")
            ctx.io.write_artifact("r.md", "x"); ctx.io.write_artifact("r.md", "y")
            return {"output": 1}
        """,
    )
    world.run()
    files = world.status["tasks"]["a"]["files"]
    assert files == {"artifacts": ["r.md"], "logs": ["a-parsing.log", "process.log"], "tmp": []}
    text = (world.directory.files("logs") / "a-parsing.log").read_text()
    assert "hello\n" in text
    assert "DEBUG task.a: deep" in text


def test_tasks_that_do_not_wait_for_each_other_run_side_by_side(world: World) -> None:
    """Each of two waits until the other one has begun."""
    for name, other in (("a", "b"), ("b", "a")):
        os.mkfifo(world.root / name)
        world.task(
            name,
            f"""
            import os
            def parsing(ctx):
                mine = os.open({str(world.root / name)!r}, os.O_RDWR)
                os.write(os.open({str(world.root / other)!r}, os.O_RDWR), b"!")
                return {{"output": os.read(mine, 1).decode()}}
            """,
            depends_on=[],
        )
    world.run()
    assert (world.output("a"), world.output("b")) == ("!", "!")


def test_tasks_the_seed_skips_do_not_run_and_hold_nothing_up(world: World) -> None:
    """What depends on them starts, without their output."""
    world.task("a", "raise SystemExit")
    world.task("b", "def parsing(ctx): return {'output': ctx.data['tasks']}")
    world.spec["skip"] = ["a"]
    world.run()
    assert world.output("b") == {}
    assert world.status["tasks"]["a"]["state"] == "skipped"
    assert world.status["state"] == "done"


def test_an_optional_task_may_fail(world: World) -> None:
    """The job goes on without its output, and is done."""
    world.task("a", "def parsing(ctx): raise ValueError('no')", optional=True, max_attempts=1)
    world.task("b", "def parsing(ctx): return {'output': ctx.data['tasks']}")
    world.run()
    assert world.output("b") == {}
    assert world.status["state"] == "done"
    assert world.status["tasks"]["a"]["state"] == "error"


def test_a_failed_attempt_is_followed_by_another_one(world: World) -> None:
    """With fresh flags and data, and a number of its own; the time counts over all of them."""
    world.task(
        "a",
        """
        def ingestion(ctx): return {"output": ctx.flags, "flags": {"seen": True}}
        def parsing(ctx):
            if ctx.meta.attempt < 3:
                raise ValueError(f"attempt {ctx.meta.attempt}")
            return {"output": [ctx.meta.attempt, ctx.output]}
        """,
    )
    world.run()
    assert world.output("a") == [3, {}]
    task = world.status["tasks"]["a"]
    assert (task["attempts"], task["state"], "error" in task) == (3, "done", False)
    assert [event["reason"] for event in world.seen("AttemptFailed")] == ["exception", "exception"]
    assert task["executionTime"] == pytest.approx(sum(line["ms"] for line in world.checkpoint("a")))
    assert [line["ok"] for line in world.checkpoint("a")] == [True, False, True, False, True, True]


def test_a_task_that_fails_for_good_fails_the_job_and_leaves_its_details(world: World) -> None:
    """Where, why, the stack, the flags and the last output; later tasks do not start."""
    world.task(
        "a",
        """
        def ingestion(ctx): return {"output": {"n": 1}, "flags": {"f": True}}
        def parsing(ctx): raise ValueError("this is why")
        """,
        max_attempts=2,
    )
    world.task("b", ONE)
    world.run()
    status = world.status
    assert status["state"] == "error"
    assert (status["current"], status["currentStage"]) == ("a", "parsing")
    assert status["error"] == {
        "task": "a", "stage": "parsing", "reason": "exception", "name": "ValueError", "message": "this is why",
    }  # fmt: skip
    assert status["tasks"]["a"]["failedStage"] == "parsing"
    assert status["tasks"]["b"]["state"] == "pending"
    assert status["tasks"]["a"]["files"]["logs"] == ["a-failure-details.json"]
    details = world.directory.files("logs") / "a-failure-details.json"
    assert all(text in details.read_text() for text in ("this is why", "a.py", "lastOutput", '"f": true', '"n": 1'))
    assert world.paper("a", "letter.json")["state"] == "error"
    assert not world.directory.runner_pid.exists()


def test_the_others_end_before_the_job_fails(world: World) -> None:
    """A task at work beside the one that failed is let finish; one between two attempts is given up."""
    os.mkfifo(world.root / "gate")
    gate = str(world.root / "gate")
    world.task("bad", "def parsing(ctx): raise ValueError('no')", max_attempts=1)
    world.task("flaky", "def parsing(ctx): raise ValueError('again')", depends_on=[])
    world.task("slow", f"def parsing(ctx): return {{'output': open({gate!r}).read()}}", depends_on=[])
    world.spec["retry_backoff_seconds"] = 30.0
    failed: set[str] = set()

    def open_gate() -> None:
        with open(gate, "w") as file:
            file.write("through")

    def release(event: Any) -> None:
        failed.update([event.task] if event.type in {"TaskFailed", "AttemptFailed"} else [])
        if failed == {"bad", "flaky"}:
            failed.clear()
            threading.Thread(target=open_gate).start()  # the slow task may still have to report before it comes there

    world.status_writer.watch = release
    world.run()
    states = {name: task["state"] for name, task in world.status["tasks"].items()}
    assert states == {"bad": "error", "flaky": "error", "slow": "done"}
    assert world.status["error"]["task"] == "bad"


def test_a_failed_validation_fails_the_task_at_that_stage(world: World) -> None:
    """Reason `validation`, whatever would have come after."""
    world.task(
        "a",
        """
        def parsing(ctx): return {"output": 1}
        def validate_structure(ctx): return {"output": None, "flags": {"validationFailed": True}}
        def integration(ctx): return {"output": "never"}
        """,
        max_attempts=1,
    )
    world.run()
    assert (world.status["error"]["stage"], world.status["error"]["reason"]) == ("validateStructure", "validation")


@pytest.mark.parametrize(("policy", "end"), [("fail", "JobFailed"), ("reject", "JobRejected")])
def test_quality_that_is_never_reached_fails_or_rejects(world: World, policy: str, end: str) -> None:
    """When the rounds are used up; it is not tried again."""
    world.task(
        "a",
        """
        def validate_quality(ctx): return {"output": None, "flags": {"needsRefinement": True}}
        """,
        max_refinements=1,
        on_refinement_exhausted=policy,
    )
    world.run()
    assert world.events[-1]["type"] == end
    assert world.status["tasks"]["a"]["attempts"] == 1
    assert world.status["tasks"]["a"]["refinementAttempts"] == 1
    assert world.seen("TaskFailed")[0]["reason"] == "quality"


@pytest.mark.parametrize(("code", "attempts"), [("overloaded", 3), ("auth", 1)])
def test_a_provider_that_fails_fails_the_task(world: World, code: str, attempts: int) -> None:
    """Reason `provider`; where no attempt can help there is only one."""

    def refuse(chat: Any) -> str:
        raise CallFailed(code, "not today")

    world.gateway.answer = refuse
    world.task("a", "def inference(ctx): return {'output': ctx.llm.chat('hi').content}")
    world.run()
    assert world.status["error"]["reason"] == "provider"
    assert world.status["tasks"]["a"]["attempts"] == attempts


def test_a_module_that_does_not_load_fails_its_task_there(world: World) -> None:
    """Stage and reason `load`, once."""
    world.task("a", "def parsing(ctx) return")
    world.run()
    assert (world.status["error"]["stage"], world.status["error"]["reason"]) == ("load", "load")
    assert world.status["error"]["name"] == "SyntaxError"
    assert world.status["tasks"]["a"]["attempts"] == 1


def test_tasks_that_wait_for_each_other_fail_the_job(world: World) -> None:
    """A cycle is told, and not waited for."""
    world.task("a", ONE, depends_on=["b"])
    world.task("b", ONE, depends_on=["a"])
    world.run()
    assert world.status["state"] == "error"
    assert "a, b" in world.status["error"]["message"]


def test_a_stop_ends_the_run_at_once(world: World) -> None:
    """Whatever a stage is doing: JobStopped, and nothing after it."""
    os.mkfifo(world.root / "gate")
    world.task("a", f"def parsing(ctx): return {{'output': open({str(world.root / 'gate')!r}).read()}}")

    def stop(event: Any) -> None:
        if event.type == "StageStarted" and event.stage == "parsing":
            world.mailbox.put(Stop())

    world.status_writer.watch = stop
    world.run()
    assert world.events[-1]["type"] == "JobStopped"
    with open(world.root / "gate", "w") as gate:
        gate.write("go on")  # the thread that was left behind ends; what it reports is of no run any more
    assert world.events[-1]["type"] == "JobStopped"
    assert not world.directory.runner_pid.exists()


STUBBORN = """
import os, time

def ingestion(ctx):
    ctx.io.write_artifact("early.txt", "x")
    os.write(1, b"from C code\\n")
    return {{"output": {{}}}}

def parsing(ctx):
    while not os.path.exists({stopped!r}):
        time.sleep(0.001)
    try:
        {act}
    finally:
        os.mkdir({acted!r})
    return {{"output": {{}}}}
"""
ACTS = {
    "writes": "ctx.io.write_artifact('late.txt', 'x')",
    "appends": "ctx.io.write_log('late.txt', 'x', mode='append')",
    "prints": "print('late')",
    "opens a database": "ctx.io.get_db().execute('create table late (x)')",
    "fails": "raise ValueError('late')",
    "asks a model": "ctx.llm.chat('late')",
    "asks a model and awaits it": "__import__('asyncio').run(ctx.llm.achat('late'))",
}


@pytest.mark.parametrize("act", ACTS)
def test_what_lies_there_when_a_job_is_stopped_is_what_its_status_lists(world: World, act: str) -> None:
    """An attempt that goes on until its process has ended puts no more files there, whatever it does, and buys
    nothing."""
    stopped, acted = world.root / "stopped", world.root / "acted"
    world.task("a", STUBBORN.format(stopped=str(stopped), acted=str(acted), act=ACTS[act]), max_attempts=1)

    def stop(event: Any) -> None:
        if event.type == "StageStarted" and event.stage == "parsing":
            world.mailbox.put(Stop())
        if event.type == "JobStopped":
            stopped.touch()
            wait_until(acted.exists, 20, "the stage to do what it does")

    world.status_writer.watch = stop
    world.run()
    world.mailbox.get(timeout=20)  # what the attempt came to; nobody takes it any more
    assert world.events[-1]["type"] == "JobStopped"
    kinds = ("artifacts", "logs", "tmp")
    there = {kind: {path.name for path in world.directory.files(kind).glob("*")} for kind in kinds}
    assert there == {kind: set(world.status["files"][kind]) for kind in kinds}
    assert there == {"artifacts": {"early.txt"}, "logs": {"process.log"}, "tmp": set()}
    assert world.gateway.bought == []
