"""Tasks that misbehave: each ends in a failure with its reason, none of them ends or floods the process."""

from __future__ import annotations

import os
from typing import Any

import pytest
from runner_world import World

JUNK = {
    "None": "None",
    "a text": "'text'",
    "a list": "[1]",
    "a mapping without output": "{'flags': {}}",
    "an unknown key": "{'output': 1, 'more': 2}",
    "flags that are no object": "{'output': 1, 'flags': 3}",
    "not a number": "{'output': float('nan')}",
    "a set": "{'output': {1}}",
    "bytes": "{'output': b'x'}",
    "a number as key": "{'output': {1: 2}}",
    "half a surrogate pair": "{'output': chr(0xd800)}",
    "a generator": "(x for x in 'abc')",
    "a class": "dict",
    "too many levels": "{'output': deep()}",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_fails_the_task_and_names_the_stage(world: World, junk: str) -> None:
    """Reason `invalid_result`, not tried again, and the rest of the run's files are whole."""
    world.task(
        "a",
        f"""
        def deep():
            value = 1
            for _ in range(5000): value = [value]
            return value
        def parsing(ctx): return {junk}
        """,
    )
    world.run()
    assert world.status["error"]["reason"] == "invalid_result"
    assert "parsing" in world.status["error"]["message"]
    assert world.status["tasks"]["a"]["attempts"] == 1


def test_a_flag_that_changes_its_type_fails_the_task(world: World) -> None:
    """Reason `flags`, at the stage that changed it."""
    world.task(
        "a",
        """
        def ingestion(ctx): return {"output": 1, "flags": {"ready": True}}
        def parsing(ctx): return {"output": 1, "flags": {"ready": "yes"}}
        """,
    )
    world.run()
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("flags", "parsing")


@pytest.mark.parametrize(
    "what", ["raise SystemExit(0)", "import sys; sys.exit('bye')", "raise KeyboardInterrupt", "raise GeneratorExit"]
)
def test_a_task_cannot_end_the_process_by_raising(world: World, what: str) -> None:
    """What would end a script is a failed stage here."""
    world.task("a", f"def parsing(ctx):\n    {what}", max_attempts=1)
    world.run()
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("exception", "parsing")


@pytest.mark.parametrize(
    "loop",
    [
        "def inference(ctx):\n    while True: pass",
        "async def inference(ctx):\n    import asyncio\n    await asyncio.sleep(3600)",
        "async def inference(ctx):\n    while True: pass",
        "def inference(ctx):\n    ctx.io.run_batch(range(3), spin)\ndef spin(item):\n    while True: pass",
        "def inference(ctx):\n    while True:\n        try: raise ValueError\n        except Exception: pass",
    ],
    ids=["loop", "async wait", "async loop", "batch", "swallowing"],
)
def test_a_stage_that_does_not_end_is_a_timeout(world: World, loop: str) -> None:
    """Reason `timeout`; the stage's time is what the log says it is."""
    world.task("a", loop, max_attempts=1, stage_timeout=0.1)
    world.run()
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("timeout", "inference")
    assert [event["timeout"] for event in world.seen("StageStarted")] == [0.1, 0.1]


def test_a_module_that_does_not_end_loading_is_a_timeout_too(world: World) -> None:
    """At stage `load`."""
    world.task("a", "while True: pass", max_attempts=1, stage_timeout=0.1)
    world.run()
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("timeout", "load")


def test_a_timeout_is_tried_again(world: World) -> None:
    """The next attempt may be quicker."""
    world.task(
        "a",
        """
        def inference(ctx):
            while ctx.meta.attempt == 1: pass
            return {"output": "quicker"}
        """,
        stage_timeout=0.1,
    )
    world.run()
    assert world.output("a") == "quicker"
    assert [event["reason"] for event in world.seen("AttemptFailed")] == ["timeout"]


def test_a_tasks_own_time_bounds_its_stages(world: World) -> None:
    """A stage has what is left of the task's time."""
    world.task(
        "a",
        """
        import time
        def ingestion(ctx):
            end = time.perf_counter() + 0.06
            while time.perf_counter() < end: pass
            return {"output": 1}
        def parsing(ctx):
            while True: pass
        """,
        max_attempts=1,
        timeout=0.2,
    )
    world.run()
    assert (world.status["error"]["reason"], world.status["error"]["stage"]) == ("timeout", "parsing")
    assert 0 < world.seen("StageStarted")[-1]["timeout"] <= 0.14


def test_a_flood_of_prints_is_bounded_on_disk(world: World) -> None:
    """Ten MiB, then one line; the task is none the worse for it."""
    world.task(
        "a",
        """
        def parsing(ctx):
            line = "x" * 65535
            for _ in range(400): print(line)
            return {"output": "done"}
        """,
    )
    world.run()
    log = world.directory.files("logs") / "a-parsing.log"
    assert 10 * 1024**2 <= log.stat().st_size < 10 * 1024**2 + 200
    assert b"truncated" in log.read_bytes()[-200:]
    assert world.output("a") == "done"


@pytest.mark.parametrize("end", ["return {'output': 'child'}", "raise ValueError", "raise SystemExit(3)"])
def test_a_forked_copy_never_runs_on_as_the_job(world: World, end: str) -> None:
    """It ends where the stage does; the run is the parent's alone."""
    world.task(
        "a",
        f"""
        import os
        def parsing(ctx):
            child = os.fork()
            if child == 0:
                {end}
            return {{"output": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}}
        """,
    )
    owner = os.getpid()
    world.run()
    assert os.getpid() == owner
    assert world.output("a") == (0 if end.startswith("return") else 1)
    assert len(world.seen("JobDone")) == 1


def test_an_exception_that_cannot_be_shown_is_a_failure_like_any_other(world: World) -> None:
    """Its own `__str__` raises, and its message is no text that could be sent."""
    world.task(
        "a",
        r"""
        class Odd(Exception):
            def __str__(self): raise RuntimeError
        def ingestion(ctx):
            if ctx.meta.attempt == 1: raise Odd
            raise ValueError("\ud800" * 10)
        """,
        max_attempts=2,
    )
    world.run()
    assert world.status["error"]["reason"] == "exception"
    assert world.status["error"]["message"] == "\\ud800" * 10


def test_a_file_outside_of_the_folder_is_the_tasks_error(world: World) -> None:
    """ValueError, and nothing was written."""
    world.task("a", "def parsing(ctx): ctx.io.write_artifact('../../../x', 'y')", max_attempts=1)
    world.run()
    assert world.status["error"]["name"] == "ValueError"
    assert not (world.root / "x").exists()


def test_a_seed_passes_through_a_task_without_stages(world: World) -> None:
    """No stage, no change: the task's output is the seed."""
    world.task("a", "'nothing here'")
    world.run()
    assert world.output("a") == {"data": {"topic": "tea"}}


@pytest.mark.parametrize("seed", [{"data": {"n": 2**70}}])
def test_a_number_too_wide_for_a_file_is_seen_but_not_handed_on(tmp_path: Any, seed: Any) -> None:
    """The seed has it exactly; an output that has it is refused."""
    world = World(tmp_path, seed)
    world.task("a", "def parsing(ctx): return {'output': str(ctx.data['seed']['data']['n'])}")
    world.task("b", "'no stages'")
    world.run()
    assert world.output("a") == str(2**70)
    assert world.status["error"]["reason"] == "invalid_result"
