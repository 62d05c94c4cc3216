"""Whatever was half done when the process was killed is whole after the next start, and nothing happened twice.

Each kill is a real SIGKILL of a real process at a named point between two steps.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fault_child as child
import pytest

from pop_actors.core.events import JobCreated, JobDone, JobRestarted, TaskStarted, event_document
from pop_actors.errors import SettingsError
from pop_actors.process_table import WORKSPACE
from pop_actors.storage import claims, disk, fault_points, finish, recovery
from pop_actors.storage.fault_points import POINTS
from pop_actors.storage.files import TEMPORARY, readable_json
from pop_actors.storage.jsonl import AppendLog, json_line, read_lines
from pop_actors.storage.layout import Workspace
from pop_actors.storage.left_behind import mark_of
from pop_actors.storage.runner_pid import kill_left_behind, process_left_behind, write_runner_pid

SEED = b'{"data": {}}'


def run(workspace: Workspace, move: str, point: str | None = None) -> int | None:
    """Do the move in a process of its own; its exit code (-9 where it was killed)."""
    process = get_context("fork").Process(target=child.do, args=(workspace, move, point))
    process.start()
    process.join(30)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode


def drop(workspace: Workspace) -> None:
    workspace.seed("j").write_bytes(SEED)
    (workspace.staging / "j").mkdir()
    (workspace.staging / "j" / "data.csv").write_text("1,2")


def log_of(workspace: Workspace, job_id: str, *lines: bytes) -> Path:
    job = workspace.job(job_id)
    job.path.mkdir()
    job.seed.write_bytes(SEED)
    job.events.write_bytes(b"".join(lines))
    return job.path


def created(job_id: str, **more: object) -> bytes:
    return json_line(event_document(child.CREATED.model_copy(update={"id": job_id, "run_id": f"pl-{job_id}", **more})))


def listing(workspace: Workspace) -> dict[str, list[str]]:
    """What lies in each folder of the data directory, but for what was always there."""
    folders = ("pending", "current", "complete", "rejected", "staging")
    return {folder: found for folder in folders if (found := sorted(os.listdir(workspace.data / folder)))}


def run_ids(workspace: Workspace) -> list[str]:
    return [line["pipelineId"] for _, line in read_lines(workspace.runs)]


def points_of(move: str) -> list[str]:
    return [point for point in POINTS if point.startswith(f"{move}.")]


@pytest.mark.parametrize("point", points_of("claim"))
def test_a_claim_killed_anywhere_is_one_job_in_the_end(workspace: Workspace, point: str) -> None:
    """After the next start the seed is either as it was, or the job; a second claim makes the one into the other."""
    drop(workspace)
    assert run(workspace, "claim", point) == -signal.SIGKILL
    found = recovery.recover(workspace)
    waiting = {"pending": ["j-seed.json"], "staging": ["j"]}
    claimed = {"current": ["j"]}
    assert listing(workspace) == (claimed if [job.job_id for job in found.unfinished] else waiting)
    if listing(workspace) == waiting:
        run(workspace, "claim")
    assert listing(workspace) == claimed
    job = workspace.job("j")
    assert (job.seed.read_bytes(), (job.files("artifacts") / "data.csv").read_text()) == (SEED, "1,2")
    assert recovery.read_job(workspace, "j").document["files"]["artifacts"] == ["data.csv"]


@pytest.mark.parametrize("point", points_of("reject"))
def test_a_rejection_killed_anywhere_happens_once_or_not_at_all(workspace: Workspace, point: str) -> None:
    """The bytes lie in exactly one place, with a whole rejection.json where they are rejected."""
    workspace.seed("j").write_bytes(SEED)
    assert run(workspace, "reject", point) == -signal.SIGKILL
    recovery.recover(workspace)
    assert listing(workspace) in [{"pending": ["j-seed.json"]}, {"rejected": ["j"]}]
    run(workspace, "reject")
    assert listing(workspace) == {"rejected": ["j"]}
    assert (workspace.rejected / "j" / "seed.json").read_bytes() == SEED
    assert json.loads((workspace.rejected / "j" / "rejection.json").read_text())["reason"] == "invalid_json"


@pytest.mark.parametrize("point", points_of("finish"))
def test_a_finish_killed_anywhere_is_one_line_and_one_directory(workspace: Workspace, point: str) -> None:
    """Also where the recovery itself is killed at the same point, and when it is done twice."""
    drop(workspace)
    run(workspace, "claim")
    assert run(workspace, "finish", point) == -signal.SIGKILL
    run(workspace, "recover", point)
    recovery.recover(workspace)
    found = recovery.recover(workspace)
    assert listing(workspace) == {"complete": ["j", "runs.jsonl"]}
    assert run_ids(workspace) == ["pl-1"]
    assert json.loads(workspace.finished("j").status.read_text())["state"] == "done"
    assert (found.finished, found.unfinished) == ([], [])


@pytest.mark.parametrize("point", points_of("reject-job"))
def test_a_job_rejected_while_killed_is_rejected_once(workspace: Workspace, point: str) -> None:
    """Its whole directory moves, with the reason the log has."""
    drop(workspace)
    run(workspace, "claim")
    assert run(workspace, "reject-job", point) == -signal.SIGKILL
    recovery.recover(workspace)
    assert listing(workspace) == {"rejected": ["j"]}
    rejection = json.loads((workspace.rejected / "j" / "rejection.json").read_text())
    assert (rejection["reason"], rejection["message"]) == ("quality", "not good enough")


def test_a_reopening_killed_is_finished_again_without_a_second_line(workspace: Workspace) -> None:
    """As long as the log knows of no new run, the old one stands as it did, however much finished since."""
    drop(workspace)
    run(workspace, "claim")
    run(workspace, "finish")
    log = AppendLog(workspace.runs)
    later = {"finishedAt": "2026-01-01T00:00:00.000Z"}
    log.append([{"pipelineId": f"pl-later-{number}", **later} for number in range(finish.LINES_SEARCHED + 50)])
    log.close()
    assert run(workspace, "reopen", "reopen.renamed") == -signal.SIGKILL
    assert listing(workspace)["current"] == ["j"]
    recovery.recover(workspace)
    assert listing(workspace) == {"complete": ["j", "runs.jsonl"]}
    assert run_ids(workspace).count("pl-1") == 1


def test_a_reopened_job_with_a_new_run_goes_on(workspace: Workspace) -> None:
    """Once JobRestarted is in the log, a start takes the job up."""
    drop(workspace)
    run(workspace, "claim")
    run(workspace, "finish")
    job = finish.reopen(workspace, "j")
    log = AppendLog(job.events)
    log.append([event_document(JobRestarted(at=child.AT, run_id="pl-2", reset=("a",), tasks=("a",)))])
    log.close()
    (found,) = recovery.recover(workspace).unfinished
    assert (found.job_id, found.document["pipelineId"], found.document["state"]) == ("j", "pl-2", "pending")


def test_the_second_passage_can_be_meant(workspace: Workspace) -> None:
    """`name:2` survives the first; a wrong name is a wrong setting."""
    drop(workspace)
    assert run(workspace, "claim", "claim.linked:2") == 0
    for wrong in ("claim.nowhere", "claim.linked:0", "claim.linked:x"):
        with pytest.raises(SettingsError):
            fault_points.arm(wrong)
    fault_points.reach("claim.linked")


def test_many_finish_together_with_one_line_each(workspace: Workspace) -> None:
    """A batch is as if each had been finished alone; done again, it adds nothing."""
    jobs = []
    for number in range(5):
        job_id = f"j{number}"
        log_of(workspace, job_id, created(job_id))
        line = {"pipelineId": f"pl-{job_id}", "createdAt": child.AT, "finishedAt": child.AT}
        jobs.append(finish.FinishedJob(job_id, line, b"{}\n"))
    (workspace.complete / "j3").mkdir()
    finish.finish_all(workspace, jobs)
    finish.finish_all(workspace, jobs, recovering=True)
    assert run_ids(workspace) == [f"pl-j{number}" for number in range(5)]
    assert listing(workspace) == {"complete": ["j0", "j1", "j2", "j3", "j3.2", "j4", "runs.jsonl"]}


def test_jobs_are_read_back_with_torn_ends_cut_and_damage_told(workspace: Workspace) -> None:
    """A start reports what it cannot read and goes on with the rest."""
    started = json_line(event_document(TaskStarted(at=child.AT, epoch=2, seq=7, task="a", attempt=1)))
    log_of(workspace, "good", created("good"), started, b'{"type": "TaskDo')
    log_of(workspace, "middle", created("middle"), b"nonsense\n", started)
    log_of(workspace, "headless", started)
    log_of(workspace, "empty")
    log_of(workspace, "stranger", created("stranger", tasks=("b",)), started)
    (workspace.current / "nolog").mkdir()
    (workspace.current / ".hidden").mkdir()
    found = recovery.recover(workspace)
    (job,) = found.unfinished
    assert (job.job_id, job.last, [type(event) for event in job.events]) == ("good", (2, 7), [JobCreated, TaskStarted])
    assert job.document["tasks"]["a"]["state"] == "running"
    assert workspace.job("good").events.read_bytes() == created("good") + started
    assert sorted(found.damaged) == ["empty", "headless", "middle", "nolog", "stranger"]
    assert "line 2" in found.damaged["middle"].message


def test_a_seed_dropped_after_a_half_claim_waits_its_turn(workspace: Workspace) -> None:
    """What somebody else put into pending/ meanwhile is neither overwritten nor taken for the half-claimed one."""
    drop(workspace)
    run(workspace, "claim", "claim.built")
    os.rename(workspace.seed("j"), workspace.pending / "moved-seed.json")
    workspace.seed("j").write_bytes(b'{"data": {"other": 1}}')
    recovery.recover(workspace)
    assert sorted(os.listdir(workspace.pending)) == ["j-seed.json", "moved-seed.json"]
    assert workspace.seed("j").read_bytes() == b'{"data": {"other": 1}}'
    assert listing(workspace)["staging"] == ["j"]


@pytest.fixture
def sleeper(workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this workspace's that leads its own group and does not end by itself."""
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env=marked_by(workspace))
    yield process
    process.kill()
    process.wait()


def marked_by(workspace: Workspace) -> dict[str, str]:
    """The environment of a process of that workspace."""
    return {**os.environ, WORKSPACE: mark_of(workspace)}


def test_a_runner_left_behind_is_dead_after_recovery(workspace: Workspace, sleeper: subprocess.Popen[bytes]) -> None:
    """Its group is killed before anything of its job is touched, and its file is gone."""
    log_of(workspace, "j", created("j"))
    write_runner_pid(workspace.job("j").runner_pid, sleeper.pid)
    found = recovery.recover(workspace)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert found.killed == [sleeper.pid]
    assert not workspace.job("j").runner_pid.exists()


def test_what_a_killed_daemon_left_of_a_trial_of_the_disk_is_removed(workspace: Workspace) -> None:
    """It was killed before the rename; whoever is writing there now is let be."""
    left, ours = (workspace.data / f".probe{TEMPORARY}{pid}" for pid in (4_194_305, os.getpid()))
    left.write_bytes(b"0")
    ours.write_bytes(b"0")
    recovery.recover(workspace)
    assert (left.exists(), ours.exists()) == (False, True)


def test_settling_touches_no_process(workspace: Workspace, sleeper: subprocess.Popen[bytes]) -> None:
    """A part of the service that starts again while jobs run must not end them."""
    log_of(workspace, "j", created("j"))
    write_runner_pid(workspace.job("j").runner_pid, sleeper.pid)
    assert [job.job_id for job in recovery.settle(workspace).unfinished] == ["j"]
    assert sleeper.poll() is None
    assert workspace.job("j").runner_pid.exists()


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(workspace: Workspace) -> None:
    """Whatever the clock said when the file was written: a process of another workspace, or of none, is not the one
    that was meant, though it leads a group and started before."""
    path = workspace.root / "runner.pid"
    other = Workspace(workspace.root, workspace.data.with_name("elsewhere"))
    for environment in (marked_by(other), None):
        stranger = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env=environment)
        try:
            write_runner_pid(path, stranger.pid)
            in_an_hour = time.time() + 3600
            os.utime(path, (in_an_hour, in_an_hour))
            assert process_left_behind(path, mark_of(workspace)) is None
            assert kill_left_behind(path, mark_of(workspace), 5.0) is None
            assert not path.exists()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()


def test_a_clock_that_was_set_back_hides_no_runner(workspace: Workspace, sleeper: subprocess.Popen[bytes]) -> None:
    """Its file then seems older than the process."""
    path = workspace.root / "runner.pid"
    write_runner_pid(path, sleeper.pid)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    assert process_left_behind(path, mark_of(workspace)) == sleeper.pid
    assert kill_left_behind(path, mark_of(workspace), 5.0) == sleeper.pid
    assert sleeper.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("content", ["", "garbage", "0", "1", "-5", "999999999", "99999999999999999999"])
def test_a_runner_pid_that_names_nobody_is_only_removed(tmp_path: Path, content: str) -> None:
    """No signal is sent to process 1, to group 0, or to whatever a damaged file may say."""
    path = tmp_path / "runner.pid"
    path.write_text(content)
    assert kill_left_behind(path, str(tmp_path), 5.0) is None
    assert not path.exists()
    assert kill_left_behind(path, str(tmp_path), 5.0) is None


def test_a_process_that_leads_no_group_is_left_alone(tmp_path: Path, workspace: Workspace) -> None:
    """Killing its group would end others with it: here, this test."""
    process = subprocess.Popen(["/bin/sleep", "600"], env=marked_by(workspace))
    try:
        write_runner_pid(tmp_path / "runner.pid", process.pid)
        assert kill_left_behind(tmp_path / "runner.pid", mark_of(workspace), 5.0) is None
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_claimed_name_that_came_back_is_removed_at_the_start(workspace: Workspace) -> None:
    """As after a power cut that lost the unlink."""
    drop(workspace)
    run(workspace, "claim")
    os.link(workspace.job("j").seed, workspace.seed("j"))
    assert claims.is_taken(workspace, "j")
    recovery.recover(workspace)
    assert listing(workspace) == {"current": ["j"]}


def test_a_job_that_cannot_leave_now_keeps_nobody_and_is_tried_again(workspace: Workspace) -> None:
    """The others leave; it stays among the unfinished, done, and leaves at the next start with its one line."""
    done = json_line(event_document(JobDone(at=child.AT, seq=1)))
    for job_id in ("first", "held", "last"):
        log_of(workspace, job_id, created(job_id), done)

    def refuse(act: Any, *arguments: Any, **options: Any) -> Any:
        if act is os.rename and str(arguments[0]).endswith("/held"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return act(*arguments, **options)

    disk.tap(refuse)
    try:
        found = recovery.settle(workspace)
    finally:
        disk.tap(None)
    assert sorted(found.finished) == ["first", "last"]
    assert [(job.job_id, job.document["state"]) for job in found.unfinished] == [("held", "done")]
    assert recovery.settle(workspace).finished == ["held"]
    assert sorted(run_ids(workspace)) == ["pl-first", "pl-held", "pl-last"]


def test_what_is_no_folder_takes_an_id_and_stops_nobody(workspace: Workspace) -> None:
    """It is told where it lies; it is never touched."""
    log_of(workspace, "good", created("good"))
    (workspace.current / "README").write_text("notes")
    found = recovery.recover(workspace)
    assert [job.job_id for job in found.unfinished] == ["good"]
    assert "is no folder" in found.damaged["README"].message
    assert (workspace.current / "README").read_text() == "notes"


def test_a_half_claim_that_cannot_be_undone_stops_no_start(workspace: Workspace) -> None:
    """Somebody put something into it; it is left for a person, and the jobs go on."""
    log_of(workspace, "good", created("good"))
    workspace.claiming("odd").mkdir()
    (workspace.claiming("odd") / "not-ours").mkdir()
    found = recovery.recover(workspace)
    assert [job.job_id for job in found.unfinished] == ["good"]
    assert found.half_claims == []
    assert (workspace.claiming("odd") / "not-ours").is_dir()


def test_a_status_that_is_the_fold_is_not_written_again(workspace: Workspace) -> None:
    """Any other is; that is how one of an older version becomes one of this version."""
    log_of(workspace, "j", created("j"))
    (job,) = recovery.recover(workspace).unfinished
    assert job.status_is_stale
    workspace.job("j").status.write_bytes(readable_json(job.document))
    (job,) = recovery.recover(workspace).unfinished
    assert not job.status_is_stale
