"""What a run leaves on disk and what the service tells over HTTP: the contract's shapes, during and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance_world import get_socket, get_tcp, place_of, quick_workspace, read_json, run

from support.daemon import Daemon, Workspace, wait_until

STATUS_KEYS = {
    "id", "pipelineId", "name", "pipeline", "mode", "state", "current", "currentStage", "progress", "createdAt",
    "lastUpdated", "restarts", "gate", "error", "costUsd", "tokens", "files", "tasks",
}  # fmt: skip
TASK_KEYS = {"state", "attempts", "currentStage", "refinementAttempts", "tokenUsage", "files", "artifacts"}
RUN_ID = re.compile(r"pl-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z-[0-9a-f]{6}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PAPERS = ["output.json", "letter.json", "execution-logs.json"]
ASKS = """
def ingestion(ctx):
    ctx.io.write_artifact("a.txt", "a")
    print("hello")
    return {"output": {"n": 1}, "flags": {"seen": True}}

def inference(ctx):
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    reply = ctx.llm.chat([{"role": "user", "content": "hi"}], response_format=schema)
    return {"output": reply.parsed}
"""
WAITS = """
import os, time
def parsing(ctx):
    while not os.path.exists(GATE): time.sleep(0.005)
    if ctx.data["seed"]["data"].get("fail"):
        raise LookupError("as asked")
    return {"output": 1}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workspace = quick_workspace(tmp_path_factory.mktemp("documents"))
    gate = workspace.root / "gate"
    workspace.add_pipeline(
        "asks", {"ask": ASKS, "wait": f"GATE = {str(gate)!r}\n{WAITS}"}, ["ask", {"name": "wait", "maxAttempts": 1}]
    )
    workspace.add_pipeline("quick", {"ask": ASKS})
    with Daemon(workspace) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


def assert_shape(status: dict[str, Any]) -> None:
    """Every key of the contract, of its type."""
    assert status.keys() >= STATUS_KEYS
    assert RUN_ID.fullmatch(status["pipelineId"])
    assert TIMESTAMP.fullmatch(status["createdAt"])
    assert TIMESTAMP.fullmatch(status["lastUpdated"])
    assert status["tokens"].keys() == {"input", "output"}
    assert status["files"].keys() == {"artifacts", "logs", "tmp"}
    for task in status["tasks"].values():
        assert task.keys() >= TASK_KEYS
        assert task["files"].keys() == {"artifacts", "logs", "tmp"}
        assert task["state"] in {"pending", "running", "done", "error", "skipped"}


@pytest.mark.parametrize("fail", [False, True])
def test_the_status_document_while_it_runs_and_after_its_end(daemon: Daemon, workspace: Workspace, fail: bool) -> None:
    """Where it is while it runs; where and why it failed; nothing current once it is done."""
    job_id = "failing" if fail else "succeeding"
    gate = workspace.root / "gate"
    gate.unlink(missing_ok=True)
    workspace.drop(job_id, {"name": "A name", "data": {"fail": fail}, "pipeline": "asks"})
    wait_until(lambda: (workspace.status(job_id) or {}).get("current") == "wait", 10, "the second task", daemon)
    wait_until(lambda: (workspace.status(job_id) or {}).get("currentStage") == "parsing", 10, "parsing", daemon)
    during = workspace.status(job_id)
    assert during is not None
    assert_shape(during)
    assert (during["id"], during["name"], during["pipeline"], during["mode"]) == (
        job_id,
        "A name",
        "asks",
        "production",
    )
    assert (during["state"], during["progress"], during["error"], during["gate"]) == ("running", 50, None, None)
    ask, wait = during["tasks"]["ask"], during["tasks"]["wait"]
    assert (ask["state"], ask["attempts"], ask["artifacts"]) == ("done", 1, PAPERS)
    assert ask["executionTime"] > 0
    assert (wait["state"], wait["attempts"], wait["currentStage"], wait["artifacts"]) == ("running", 1, "parsing", [])
    assert (workspace.data / "current" / job_id / "runner.pid").exists()
    gate.touch()
    ended = "error" if fail else "done"
    wait_until(lambda: workspace.state(job_id) == ended, 10, "its end", daemon)
    wait_until(lambda: fail or workspace.is_complete(job_id), 10, "its move", daemon)
    after = workspace.status(job_id)
    assert after is not None
    assert_shape(after)
    assert (after["pipelineId"], after["createdAt"]) == (during["pipelineId"], during["createdAt"])
    assert not (place_of(workspace, job_id) / "runner.pid").exists()
    wait = after["tasks"]["wait"]
    assert TIMESTAMP.fullmatch(wait["startedAt"])
    assert TIMESTAMP.fullmatch(wait["endedAt"])
    if fail:
        assert (after["current"], after["currentStage"]) == ("wait", "parsing")
        assert after["error"] == {
            "task": "wait", "stage": "parsing", "reason": "exception", "name": "LookupError", "message": "as asked",
        }  # fmt: skip
        assert (wait["state"], wait["failedStage"], wait["error"]["name"]) == ("error", "parsing", "LookupError")
        assert "LookupError" in wait["error"]["stack"]
        details = read_json(place_of(workspace, job_id) / "files" / "logs" / "wait-failure-details.json")
        assert (details["stage"], details["lastOutput"]) == ("parsing", None)
    else:
        assert (after["current"], after["currentStage"], after["progress"]) == (None, None, 100)
        assert (wait["state"], wait["artifacts"]) == ("done", PAPERS)
        assert "failedStage" not in wait


def test_the_papers_of_a_task(daemon: Daemon, workspace: Workspace) -> None:
    """output.json, letter.json, execution-logs.json, checkpoint.jsonl, runs.jsonl, and the file index."""
    status = run(daemon, "papers", "quick")
    place = place_of(workspace, "papers")
    task = place / "tasks" / "ask"
    output = read_json(task / "output.json")["ask"]
    assert output.keys() == {"content", "metadata", "timestamp"}
    assert isinstance(output["content"]["title"], str)
    letter = read_json(task / "letter.json")
    assert (letter["task"], letter["attempt"], letter["state"]) == ("ask", 1, "done")
    logs = read_json(task / "execution-logs.json")
    assert all(entry.keys() >= {"timestamp", "level", "message", "stage"} for entry in logs)
    ran = [entry["stage"] for entry in logs if not entry.get("skipped")]
    assert ran == ["ingestion", "inference"]
    assert {entry["stage"] for entry in logs} == {
        "ingestion", "preProcessing", "promptTemplating", "inference", "parsing", "validateStructure",
        "validateQuality", "critique", "refine", "finalValidation", "integration",
    }  # fmt: skip
    lines = workspace.lines(task / "checkpoint.jsonl")
    assert [line["stage"] for line in lines] == ["ingestion", "inference"]
    for line in lines:
        assert line.keys() >= {"stage", "round", "ok", "ms", "output", "flags", "startedAt"}
    assert (lines[0]["output"], lines[0]["flags"], lines[0]["ok"]) == ({"n": 1}, {"seen": True}, True)
    assert status["files"] == {"artifacts": ["a.txt"], "logs": ["ask-ingestion.log"], "tmp": []}
    assert status["tasks"]["ask"]["files"] == status["files"]
    assert (place / "files" / "logs" / "ask-ingestion.log").read_text(encoding="utf-8") == "hello\n"
    assert read_json(place / "pipeline.json")["name"] == "quick"
    line = next(line for line in workspace.runs() if line["id"] == "papers")
    assert (line["tasks"], line["finalArtifacts"], line["attempts"]) == (["ask"], ["ask"], 1)
    assert line["totalExecutionTime"] == status["tasks"]["ask"]["executionTime"]
    assert line["tokens"] == status["tokens"]
    assert status["tokens"]["input"] > 0


def test_calls_are_journaled_beside_the_job(daemon: Daemon, workspace: Workspace) -> None:
    """The offline provider's replies stand there like any other; the reply is what the stage got."""
    status = run(daemon, "journaled", "quick")
    lines = workspace.lines(place_of(workspace, "journaled") / "llm-calls.jsonl")
    paid = [line for line in lines if line["type"] == "paid"]
    assert len(paid) == 1
    assert paid[0].keys() >= {
        "type", "key", "task", "attempt", "stage", "round", "ordinal", "requestSha256", "provider", "model", "at",
        "reply", "usage", "costUsd",
    }  # fmt: skip
    assert (paid[0]["provider"], paid[0]["costUsd"]) == ("offline", 0)
    name, tokens_in, tokens_out, cost = status["tasks"]["ask"]["tokenUsage"][0]
    assert name == f"offline:{paid[0]['model']}"
    assert (tokens_in, tokens_out, cost) == (status["tokens"]["input"], status["tokens"]["output"], 0)


METRICS = (
    "jobs",
    "jobs_total",
    "job_duration_seconds",
    "job_start_seconds",
    "task_duration_seconds",
    "stage_duration_seconds",
    "refinements_total",
    "seeds_total",
    "pending_seeds",
    "actor_restarts_total",
    "actor_mailbox_messages",
    "actor_up",
    "status_writes_total",
    "status_write_seconds",
    "status_events_total",
    "llm_requests_total",
    "llm_request_seconds",
    "llm_wait_seconds",
    "llm_inflight",
    "llm_waiting",
    "llm_tokens_total",
    "llm_cost_dollars_total",
    "llm_retries_total",
    "llm_replays_total",
    "llm_circuit_open",
    "llm_limit",
    "rollout_mode",
    "build_info",
)


def test_every_metric_of_the_contract_is_there(daemon: Daemon, workspace: Workspace) -> None:
    """Each name is declared, what a run moves has moved, and no label holds a job's id."""
    run(daemon, "measured-job", "quick")
    code, body = get_tcp(daemon, "/metrics")
    text = body.decode()
    assert code == 200
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    missing = {f"pop_{name}" for name in METRICS} - declared
    assert missing == set()
    for sample in (
        'pop_jobs_total{outcome="done",pipeline="quick"}', 'pop_actor_up{actor="status-writer"} 1.0',
        'pop_rollout_mode{mode="production"} 1.0', "pop_job_start_seconds_count", "pop_status_writes_total",
        'pop_stage_duration_seconds_count{stage="ingestion"}', 'pop_llm_requests_total{model="',
    ):  # fmt: skip
        assert sample in text, sample
    assert "measured-job" not in text


@pytest.mark.parametrize("get", [get_tcp, get_socket])
def test_the_api_answers_on_both_listeners(daemon: Daemon, workspace: Workspace, get: Any) -> None:
    """Probes, and the same documents as the files, in the envelope."""
    run(daemon, f"asked-{get.__name__}", "quick")
    for probe in ("/healthz", "/readyz"):
        code, body = get(daemon, probe)
        assert (code, json.loads(body)["ok"]) == (200, True)
    for path in ("/api/jobs", "/api/runs", "/api/tree", "/api/gateway", "/api/state", "/api/meta", "/api/concurrency",
                 "/api/pipelines", "/api/pipelines/quick", "/openapi.json"):  # fmt: skip
        code, body = get(daemon, path)
        document = json.loads(body)
        assert code == 200, path
        assert path == "/openapi.json" or (document["ok"], "data" in document) == (True, True)
    assert get(daemon, "/")[0] == 200
    job = f"/api/jobs/asked-{get.__name__}"
    assert json.loads(get(daemon, job)[1])["data"] == workspace.status(f"asked-{get.__name__}")
    listed = json.loads(get(daemon, f"{job}/tasks/ask/files?type=artifacts")[1])
    assert "a.txt" in json.dumps(listed["data"])
    code, body = get(daemon, f"{job}/tasks/ask/file?type=artifacts&filename=a.txt")
    assert (code, json.loads(body)["data"]["content"]) == (200, "a")
    for wrong in ("..%2f..%2fseed.json", "../seed.json", "b.txt", "%00"):
        code, body = get(daemon, f"{job}/tasks/ask/file?type=artifacts&filename={wrong}")
        assert (code, json.loads(body)["ok"]) == (404, False), wrong
    code, body = get(daemon, "/api/jobs/none")
    assert code == 404
    assert json.loads(body).keys() >= {"ok", "code", "message"}


def test_tcp_is_read_only_and_for_this_machine_only(daemon: Daemon) -> None:
    """A foreign Host is refused with 403."""
    assert get_tcp(daemon, "/api/jobs", {"Host": "evil.example"})[0] == 403
    assert get_tcp(daemon, "/api/jobs", {"Host": "localhost"})[0] == 200
