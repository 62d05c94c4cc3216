"""popctl's commands as processes against a real API: exit codes, one JSON document, and words for people."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from pop_actors.cli.daemon import Daemon
from pop_actors.cli.failure import CommandFailed
from pop_actors.core import events as e
from support.memory_control import AT, Service, eventually
from support.popctl import Popctl

READING = (["status"], ["list"], ["runs"], ["tree"], ["gateway"], ["events"])


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def a_failed_job(service: Service, job_id: str = "job-1") -> None:
    """One task done with a paid call, the next one failed."""
    service.control.create(job_id)
    error = e.ErrorInfo(name="ValueError", message="no \x1b[31mtitle")
    usage = {"input_tokens": 100, "output_tokens": 20, "cost_usd": 0.5}
    paid = e.CallPaid(at=AT, key="k", task="research", provider="openai", model="gpt", **usage)
    service.control.happen(
        job_id,
        e.JobStarted(at=AT, pid=7),
        e.TaskStarted(at=AT, task="research", attempt=1),
        paid,
        e.TaskDone(at=AT, task="research", attempt=1, execution_time=1500),
        e.TaskFailed(at=AT, task="write", attempt=3, stage="parsing", reason="exception", error=error),
        e.JobFailed(at=AT, task="write", stage="parsing", reason="exception", error=error),
    )


@pytest.mark.parametrize("words", READING)
def test_commands_that_read_print_one_json_document(service: Service, popctl: Popctl, words: list[str]) -> None:
    """Before the command or after it, --json gives exactly one document."""
    service.control.create("job-1")
    before, after = popctl("--json", *words), popctl(*words, "--json")
    assert (before.code, after.code) == (0, 0)
    assert before.document == after.document
    assert before.err == after.err == ""


@pytest.mark.parametrize("words", [*READING, ["status", "j"], ["stop", "j"], ["watch", "j"], ["logs", "j"], ["pause"]])
def test_without_a_daemon_the_exit_code_is_3(alone: Popctl, words: list[str]) -> None:
    """The message says how to start one; with --json the error is a document too."""
    ran = alone(*words)
    assert (ran.code, ran.out) == (3, "")
    assert f"popd --root {alone.root}" in ran.err
    assert alone("--json", *words).document["code"] == "no_daemon"


def test_a_dead_daemons_socket_is_no_daemon(alone: Popctl) -> None:
    """A socket file nobody listens at is told like none."""
    path = alone.root / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert alone("--socket", str(path), "status").code == 3


def test_a_slow_daemon_is_told_apart_from_none(service: Service) -> None:
    """After the deadline: exit code 1, and that popd is there."""
    service.control.hold.clear()
    with (
        Daemon(service.server.socket_path, service.workspace.root, deadline_seconds=0.2) as daemon,
        pytest.raises(CommandFailed, match="popd is there") as failed,
    ):
        daemon.get("/api/jobs")
    assert (failed.value.code, failed.value.exit_code) == ("timeout", 1)


@pytest.mark.parametrize("words", [["status", "nope"], ["stop", "nope"], ["report", "nope"], ["logs", "../x"]])
def test_what_is_not_found_is_exit_code_4(popctl: Popctl, words: list[str]) -> None:
    """With the daemon's own words."""
    ran = popctl(*words, "--json")
    assert (ran.code, ran.document["code"]) == (4, "not_found")
    assert ran.err.startswith("popctl: ")


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["list", "--bogus"],
        ["stop"],
        ["list", "--state", "bogus"],
        ["restart", "j", "--only"],
        ["pause", "j"],
    ],
)
def test_wrong_usage_is_exit_code_2(popctl: Popctl, words: list[str]) -> None:
    """Told on stderr, and as a document with --json."""
    ran = popctl(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert popctl("--json", *words).document["code"] == "usage"


def test_a_refusal_is_exit_code_1(service: Service, popctl: Popctl) -> None:
    """What the daemon refuses comes with its code and message."""
    service.control.create("job-1")
    service.control.happen("job-1", e.JobStarted(at=AT, pid=7))
    ran = popctl("--json", "restart", "job-1")
    assert (ran.code, ran.document) == (
        1,
        {"ok": False, "code": "wrong_state", "message": "job-1 runs; stop it first"},
    )


def test_orders_reach_the_daemon(service: Service, popctl: Popctl) -> None:
    """Each with its arguments, and a word of what was done."""
    service.control.create("job-1")
    for words in (["pause"], ["resume"], ["stop", "job-1"], ["restart", "job-1", "--from", "write", "--only"]):
        ran = popctl(*words)
        assert ran.code == 0
        assert ran.out.strip()
    assert popctl("shutdown", "--json").document["ok"] is True
    assert service.control.orders == [
        ("pause",),
        ("resume",),
        ("stop", "job-1"),
        ("restart", "job-1", "write", True),
        ("shutdown",),
    ]


def test_status_and_list_have_the_contracts_shape(service: Service, popctl: Popctl) -> None:
    """`status JOB` is the status document, `list` an array of its summary."""
    a_failed_job(service)
    assert popctl("--json", "status", "job-1").document == service.control.documents["job-1"]
    (job,) = popctl("--json", "list", "--state", "error").document
    keys = "id pipelineId name pipeline state mode current currentStage progress createdAt lastUpdated costUsd"
    assert list(job) == keys.split()
    assert popctl("--json", "list", "--state", "running").document == []


def test_people_read_where_a_job_failed_and_what_to_do(service: Service, popctl: Popctl) -> None:
    """Place, reason and the next command, and nothing that steers the terminal."""
    a_failed_job(service)
    text = popctl("status", "job-1").out
    assert "write / parsing" in text
    assert "exception: ValueError: no" in text
    assert "popctl restart job-1" in text
    assert "\x1b" not in text


def test_a_report_tells_cost_and_tokens(service: Service, popctl: Popctl) -> None:
    """Per task, and in all."""
    a_failed_job(service)
    found = popctl("--json", "report", "job-1").document
    assert found["total"]["costUsd"] == found["tasks"][0]["costUsd"] == 0.5
    assert "$0.5000" in popctl("report", "job-1").out


def test_finished_jobs_are_in_runs_and_in_list_all(service: Service, popctl: Popctl) -> None:
    """They left the list of open ones."""
    service.control.create("job-1", "only")
    service.control.happen("job-1", e.JobDone(at=AT))
    assert popctl("--json", "list").document == []
    assert [job["id"] for job in popctl("--json", "list", "--all").document] == ["job-1"]
    assert [run["id"] for run in popctl("--json", "runs").document] == ["job-1"]
    assert popctl("runs").out.splitlines()[1].startswith("job-1")


def test_the_tree_is_drawn(popctl: Popctl) -> None:
    """Nested as it is supervised."""
    assert "├─ status-writer  (thread, running, restarts 1, up 1 m 15 s)" in popctl("tree").out


def test_logs_are_read_by_task_and_stage(service: Service, popctl: Popctl) -> None:
    """All of a job's, or only what was asked for."""
    service.control.create("job-1")
    service.control.write_file("job-1", "research", "logs", "research-parsing.log", b"first\n")
    service.control.write_file("job-1", "write", "logs", "write-parsing.log", b"second\n")
    service.control.write_file("job-1", "write", "logs", "write-critique.log", b"third\n")
    assert popctl("logs", "job-1").out.count("==>") == 3
    assert popctl("logs", "job-1", "--task", "write", "--stage", "critique").out.endswith("third\n")
    found = popctl("--json", "logs", "job-1", "--stage", "parsing").document
    assert [(one["task"], one["text"]) for one in found] == [("research", "first\n"), ("write", "second\n")]
    assert popctl("logs", "job-1", "--task", "bogus").code == 4


def test_logs_are_followed_until_the_job_ends(service: Service, popctl: Popctl) -> None:
    """What is appended appears once; the command ends with the job."""
    service.control.create("job-1", "write")
    path = service.control.write_file("job-1", "write", "logs", "write-parsing.log", b"first\n")
    process = popctl.start("logs", "job-1", "-f")
    assert read_line(process).startswith("==>")
    assert read_line(process) == "first\n"
    with path.open("ab") as log:
        log.write(b"second\n")
    assert read_line(process) == "second\n"
    service.control.happen("job-1", e.JobDone(at=AT))
    out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == ("", 0)


def test_a_job_is_watched_until_it_ends(service: Service, popctl: Popctl) -> None:
    """With --json a document a change, on one line each."""
    service.control.create("job-1")
    process = popctl.start("--json", "watch", "job-1")
    assert json.loads(read_line(process))["state"] == "pending"
    service.control.happen("job-1", e.JobStarted(at=AT, pid=7))
    assert json.loads(read_line(process))["state"] == "running"
    service.control.happen("job-1", e.JobStopped(at=AT))
    out, _ = process.communicate(timeout=10)
    assert json.loads(out)["state"] == "stopped"
    assert process.returncode == 0


def test_events_are_followed(service: Service, popctl: Popctl) -> None:
    """From now on, one line each, of one job where asked."""
    process = popctl.start("--json", "events", "-f", "--job", "job-2")
    eventually(lambda: service.server.snapshot()["readers"] == 1)
    service.control.create("job-1")
    service.control.create("job-2")
    found = json.loads(read_line(process))
    assert (found["event"], found["data"]["id"]) == ("job:created", "job-2")
    process.terminate()
    process.communicate(timeout=10)


def test_a_reader_that_leaves_early_is_no_error_to_read(service: Service, popctl: Popctl) -> None:
    """`popctl list | head -1` prints no traceback."""
    for number in range(2000):
        service.control.create(f"job-{number}", "t")
    process = popctl.start("list")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=20)
    assert err == ""


def test_popctl_is_a_program(alone: Popctl) -> None:
    """As a process it ends with the exit codes of the contract, and prints as told."""
    process = alone.start("status", "--json")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["code"]) == (3, "no_daemon")
    assert err.startswith("popctl: no daemon at ")


def test_the_version_and_help_need_no_daemon(alone: Popctl) -> None:
    """Also a bare `popctl` explains itself."""
    assert alone("--version").out.startswith("popctl ")
    assert "submit" in alone("--help").out
    assert "submit" in alone().err


def test_popctl_finds_a_daemon_whose_socket_lies_elsewhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace too deep for a socket works like any other."""
    root = tmp_path / ("d" * 60) / ("e" * 60)
    with Service(root) as service:
        service.control.create("job-1")
        assert [job["id"] for job in Popctl(root, capfd, monkeypatch)("--json", "list").document] == ["job-1"]
