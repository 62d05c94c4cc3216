"""Task code that is wrong in every way we could think of: its job fails with the reason, and the daemon goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from acceptance_world import (
    assert_still_serves,
    end_of,
    output_of,
    place_of,
    quick_workspace,
    read_json,
    run,
)

from support.daemon import Daemon, Workspace, wait_until

LOG_LIMIT = 11_000_000
SECRET = "sk-acceptance-8472615390"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    environment = {"OPENAI_API_KEY": SECRET, "MY_OWN_KEY": SECRET}
    settings = (
        '[gateway.providers.mine]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "MY_OWN_KEY"\n'
    )
    with Daemon(quick_workspace(tmp_path_factory.mktemp("bad"), settings), environment) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


@dataclass(frozen=True)
class Bad:
    """A task's source and how its job is to fail. `said` stands in the error's message."""

    source: str
    reason: str
    stage: str
    said: str = ""
    entry: dict[str, Any] = field(default_factory=lambda: {"maxAttempts": 1})


def stage(body: str, name: str = "ingestion") -> str:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"import os, sys, time, threading, math\n\ndef {name}(ctx):\n{lines}\n"


OK = stage("return {'output': 1}")
CASES = {
    "no-such-import": Bad("import no_such_module\n", "load", "load", "no_such_module"),
    "syntax": Bad("def ingestion(ctx:\n", "load", "load", "syntax"),
    "load-exits": Bad("raise SystemExit(3)\n", "load", "load"),
    "not-utf8": Bad("x = '\udcff'\n", "load", "load"),
    "junk": Bad(stage("return 7"), "invalid_result", "ingestion", "ingestion"),
    "nothing": Bad(stage("return None"), "invalid_result", "ingestion", "ingestion"),
    "no-output": Bad(stage("return {'flags': {}}"), "invalid_result", "ingestion", "output"),
    "object": Bad(stage("return {'output': object()}", "parsing"), "invalid_result", "parsing", "parsing"),
    "nan": Bad(stage("return {'output': {'x': [math.nan]}}"), "invalid_result", "ingestion", "x[0]"),
    "number-key": Bad(stage("return {'output': {1: 2}}"), "invalid_result", "ingestion", "key"),
    "circular": Bad(stage("a = []\na.append(a)\nreturn {'output': a}"), "invalid_result", "ingestion"),
    "flags-list": Bad(stage("return {'output': 1, 'flags': [1]}"), "invalid_result", "ingestion", "flags"),
    "raises": Bad(OK + stage("raise ValueError('ouch')", "inference"), "exception", "inference", "ouch"),
    "exits": Bad(stage("sys.exit(0)"), "exception", "ingestion"),
    "interrupts": Bad(stage("raise KeyboardInterrupt"), "exception", "ingestion"),
    "group": Bad(stage("raise BaseExceptionGroup('g', [KeyboardInterrupt()])"), "exception", "ingestion"),
    "recursion": Bad(stage("return ingestion(ctx)"), "exception", "ingestion"),
    "generator": Bad(stage("yield {'output': 1}"), "invalid_result", "ingestion"),
    "async-raises": Bad("async def ingestion(ctx):\n    raise OSError('oh')\n", "exception", "ingestion", "oh"),
    "leaves-its-folder": Bad(stage("ctx.io.write_artifact('../x', '')"), "exception", "ingestion", "../x"),
    "absolute-name": Bad(stage("ctx.io.write_log('/etc/x', '')"), "exception", "ingestion", "/etc/x"),
    "evil-message": Bad(
        "class E(Exception):\n    def __str__(self):\n        1 / 0\n" + stage("raise E()"), "exception", "ingestion"
    ),
    "flag-changes": Bad(
        stage("return {'output': 1, 'flags': {'x': True}}")
        + stage("return {'output': 1, 'flags': {'x': 'yes'}}", "parsing"),
        "flags", "parsing", "x",
    ),
    "validation": Bad(
        OK + stage("return {'output': 'no', 'flags': {'validationFailed': True}}", "validate_structure"),
        "validation", "validateStructure",
    ),
    "never-good-enough": Bad(
        OK + stage("return {'output': 'no', 'flags': {'needsRefinement': True}}", "validate_quality"),
        "quality", "validateQuality",
    ),
    "endless": Bad(stage("while True: pass"), "timeout", "ingestion", "", {"maxAttempts": 1, "stageTimeout": 1}),
    "endless-c": Bad(stage("sum(iter(int, 1))"), "timeout", "ingestion", "", {"maxAttempts": 1, "stageTimeout": 1}),
    "endless-async": Bad(
        "import asyncio\nasync def ingestion(ctx):\n    await asyncio.Event().wait()\n",
        "timeout", "ingestion", "", {"maxAttempts": 1, "stageTimeout": 1},
    ),
    "swallows-timeout": Bad(
        stage("while True:\n    try:\n        time.sleep(0.01)\n    except BaseException:\n        pass"),
        "timeout", "ingestion", "", {"maxAttempts": 1, "stageTimeout": 1},
    ),
    "task-timeout": Bad(
        stage("threading.Event().wait()"), "timeout", "ingestion", "", {"maxAttempts": 1, "timeout": 1}
    ),
    "dies": Bad(stage("os._exit(0)"), "crashed", "ingestion"),
    "kills-itself": Bad(stage("os.kill(os.getpid(), 9)"), "crashed", "ingestion"),
    "segfaults": Bad(stage("import ctypes\nctypes.string_at(0)"), "crashed", "ingestion"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_bad_task_fails_its_job_with_the_reason_and_harms_nobody_else(
    daemon: Daemon, workspace: Workspace, name: str
) -> None:
    """The status says where and why, the details are in the logs, and a good job goes through after it."""
    case = CASES[name]
    workspace.add_pipeline(name, {"bad": ""}, [{"name": "bad", **case.entry}])
    source = workspace.root / "pipeline-config" / name / "tasks" / "bad.py"
    source.write_bytes(case.source.encode("utf-8", "surrogateescape"))
    status = run(daemon, name, name)
    assert (status["state"], status["current"], status["currentStage"]) == ("error", "bad", case.stage)
    error = status["error"]
    assert (error["task"], error["stage"], error["reason"]) == ("bad", case.stage, case.reason)
    assert case.said in error["message"]
    assert (workspace.data / "current" / name).is_dir()
    assert workspace.runs() == [line for line in workspace.runs() if line["id"] != name]
    if case.reason != "crashed":
        task = status["tasks"]["bad"]
        assert (task["state"], task["failedStage"], task["attempts"]) == ("error", case.stage, 1)
        assert task["error"].keys() >= {"name", "message", "stack"}
        assert "bad-failure-details.json" in task["files"]["logs"]
        details = read_json(place_of(workspace, name) / "files" / "logs" / "bad-failure-details.json")
        assert details.keys() >= {"error", "stack", "stage", "flags", "lastOutput"}
        assert details["stage"] == case.stage
    assert_still_serves(daemon, name)


def test_a_crash_loop_frees_its_slot(daemon: Daemon, workspace: Workspace) -> None:
    """More crashing jobs than slots: all end in error `crashed`, restarts counted, and no process is left."""
    workspace.add_pipeline("crash", {"crash": stage("os._exit(7)")})
    names = [f"crash-{number}" for number in range(5)]
    for name in names:
        workspace.drop(name, {"data": {}, "pipeline": "crash"})
    assert [end_of(daemon, name) for name in names] == ["error"] * 5
    for name in names:
        status = workspace.status(name)
        assert status is not None
        assert status["error"]["reason"] == "crashed"
        assert status["restarts"] == 2
        assert not (place_of(workspace, name) / "runner.pid").exists()
    assert_still_serves(daemon, "crash-loop")


def test_reject_on_exhaustion_moves_the_whole_job_to_rejected(daemon: Daemon, workspace: Workspace) -> None:
    """`onRefinementExhausted: "reject"`: the directory is in rejected/ with a rejection.json beside what it made."""
    source = stage("ctx.io.write_artifact('draft.txt', 'x')\nreturn {'output': 1}") + stage(
        "return {'output': 1, 'flags': {'needsRefinement': True}}", "validate_quality"
    )
    workspace.add_pipeline("exacting", {"draft": source}, onRefinementExhausted="reject")
    workspace.drop("not-good", {"data": {}, "pipeline": "exacting"})
    wait_until(lambda: workspace.rejection("not-good"), 10, "its rejection", daemon)
    place = workspace.data / "rejected" / "not-good"
    rejection = workspace.rejection("not-good")
    assert rejection is not None
    assert rejection.keys() == {"jobId", "reason", "message", "rejectedAt"}
    assert (rejection["jobId"], rejection["reason"]) == ("not-good", "quality")
    assert (place / "files" / "artifacts" / "draft.txt").read_text(encoding="utf-8") == "x"
    assert read_json(place / "tasks-status.json")["error"]["reason"] == "quality"
    assert not (workspace.data / "current" / "not-good").exists()
    assert_still_serves(daemon, "not-good")


def test_100_megabytes_of_prints_are_bounded_and_the_job_goes_on(daemon: Daemon, workspace: Workspace) -> None:
    """The stage's log is cut and says so; its output is as returned."""
    source = stage("for _ in range(100):\n    print('x' * 1_000_000)\nreturn {'output': 'talked'}")
    workspace.add_pipeline("loud", {"loud": source})
    assert run(daemon, "loud", "loud")["state"] == "done"
    log = workspace.data / "complete" / "loud" / "files" / "logs" / "loud-ingestion.log"
    assert 1_000_000 < log.stat().st_size < LOG_LIMIT
    assert "truncated" in log.read_text(encoding="utf-8")[-200:]
    assert output_of(workspace, "loud", "loud") == "talked"


def test_a_forked_child_that_returns_is_not_a_second_run(daemon: Daemon, workspace: Workspace) -> None:
    """Whatever the child does after the fork, the job is done once, with the parent's output."""
    body = (
        "parent = os.getpid()\nchild = os.fork()\nif child: os.waitpid(child, 0)\n"
        "return {'output': 'parent' if os.getpid() == parent else 'child'}"
    )
    workspace.add_pipeline("forks", {"forks": stage(body)})
    assert run(daemon, "forks", "forks")["state"] == "done"
    assert output_of(workspace, "forks", "forks") == "parent"
    assert [line["id"] for line in workspace.runs()].count("forks") == 1
    events = workspace.lines(workspace.data / "complete" / "forks" / "events.jsonl")
    assert [event["type"] for event in events].count("TaskDone") == 1
    assert_still_serves(daemon, "forks")


def test_a_process_the_task_left_behind_does_not_outlive_the_job(daemon: Daemon, workspace: Workspace) -> None:
    """A subprocess nobody waited for is ended with the job's process group."""
    body = "import subprocess\nreturn {'output': subprocess.Popen(['sleep', '600']).pid}"
    workspace.add_pipeline("litters", {"litters": stage(body)})
    assert run(daemon, "litters", "litters")["state"] == "done"
    pid = output_of(workspace, "litters", "litters")
    wait_until(lambda: not _is_running(pid), 10, "the left process to be gone", daemon)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_mutation_of_what_a_stage_was_handed_reaches_nobody(daemon: Daemon, workspace: Workspace) -> None:
    """Data, output, flags and config are copies, within a task and from task to task."""
    first = stage(
        "out = {'list': [1]}\nctx.config['k'].append(2)\nctx.data['seed']['data']['deep'].append(2)\n"
        "return {'output': out, 'flags': {'f': [1]}}"
    ) + stage(
        "ctx.data['ingestion']['list'].append(2)\nctx.output['list'].append(3)\nctx.flags['f'].append(2)\n"
        "ctx.data['new'] = 1\nreturn {'output': {'second': True}}",
        "pre_processing",
    )
    first += stage(
        "return {'output': [ctx.data['ingestion'], ctx.flags, ctx.config, ctx.data['seed'], sorted(ctx.data)]}",
        "prompt_templating",
    )
    second = stage("ctx.data['tasks']['first'][0]['list'].append(9)\nreturn {'output': 1}")
    third = stage("return {'output': ctx.data['tasks']['first'][0]}")
    workspace.add_pipeline(
        "mutates",
        {"first": first, "second": second, "third": third},
        [{"name": "first", "config": {"k": [1]}}, "second", "third"],
    )
    seed = {"data": {"deep": [1]}, "pipeline": "mutates"}
    assert run(daemon, "mutates", "mutates", data={"deep": [1]})["state"] == "done"
    ingested, flags, config, seen, keys = output_of(workspace, "mutates", "first")
    assert ingested == {"list": [1]}
    assert flags == {"f": [1]}
    assert config == {"k": [1]}
    assert seen == seed
    assert keys == ["ingestion", "preProcessing", "seed", "tasks"]
    assert output_of(workspace, "mutates", "third") == {"list": [1]}


SNOOP = """
import os, re

def ingestion(ctx):
    found = re.compile(b"sk-accep" + b"tance-[0-9]{10}")
    environ = open("/proc/self/environ", "rb").read()
    memory = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
        for line in maps:
            span, mode = line.split()[:2]
            if mode.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                mem.seek(start)
                try:
                    if found.search(mem.read(end - start)):
                        memory.append(line)
                except OSError:
                    continue
    names = sorted(name for name in os.environ if "KEY" in name)
    return {"output": {"names": names, "environ": bool(found.search(environ)), "memory": memory, "size": len(environ)}}
"""


def test_no_provider_key_is_in_a_task_process_or_on_disk(daemon: Daemon, workspace: Workspace) -> None:
    """Neither in os.environ, nor in /proc/self/environ, nor in its memory, nor in any file of the workspace."""
    workspace.add_pipeline("snoops", {"snoops": SNOOP})
    assert run(daemon, "snoops", "snoops")["state"] == "done"
    seen = output_of(workspace, "snoops", "snoops")
    assert seen["size"] > 0
    assert (seen["names"], seen["environ"], seen["memory"]) == ([], False, [])
    for path in workspace.root.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_module_edit_takes_effect_at_the_next_run(daemon: Daemon, workspace: Workspace) -> None:
    """Modules, and what they import beside them, are read anew for every run."""
    folder = workspace.root / "pipeline-config" / "edited" / "tasks"
    for text in ("one", "two"):
        source = "import beside\ndef ingestion(ctx):\n    return {'output': ['" + text + "', beside.TEXT]}\n"
        workspace.add_pipeline("edited", {"edited": source})
        (folder / "beside.py").write_text(f"TEXT = {text!r}\n", encoding="utf-8")
        assert run(daemon, f"edited-{text}", "edited")["state"] == "done"
        assert output_of(workspace, f"edited-{text}", "edited") == [text, text]
    assert not (folder / "__pycache__").exists()


def test_logs_and_prints_are_indexed_per_stage(daemon: Daemon, workspace: Workspace) -> None:
    """Each stage that said something has its file, and only those."""
    source = stage("print('printed')\nreturn {'output': 1}") + stage(
        "ctx.log.warning('logged')\nreturn {'output': 1}", "parsing"
    )
    workspace.add_pipeline("talks", {"talks": source + stage("return {'output': 1}", "integration")})
    status = run(daemon, "talks", "talks")
    assert status["files"]["logs"] == ["talks-ingestion.log", "talks-parsing.log"]
    logs = workspace.data / "complete" / "talks" / "files" / "logs"
    assert {entry.name for entry in logs.iterdir()} == {"talks-ingestion.log", "talks-parsing.log"}
    assert (logs / "talks-ingestion.log").read_text(encoding="utf-8") == "printed\n"
    assert "logged" in (logs / "talks-parsing.log").read_text(encoding="utf-8")
    assert json.loads((logs.parents[1] / "tasks-status.json").read_bytes()) == status
