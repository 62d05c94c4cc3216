"""`popctl submit` as a process: what it drops, what it refuses, and how it waits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.memory_control import Service, eventually
from support.popctl import Popctl


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "market.json"
    path.write_text('{"name": "Market", "data": {"topic": "é"}}', encoding="utf-8")
    return path


def dropped(service: Service) -> list[str]:
    return sorted(path.name for path in service.workspace.pending.iterdir())


def claim(service: Service, job_id: str, state: str, **more: Any) -> None:
    """Do to a seed what popd does: the job appears in current/, and the seed is gone."""
    seed = service.workspace.seed(job_id)
    eventually(seed.exists)
    status = {"state": state, "current": "write", "currentStage": None, "progress": 0, "costUsd": 0, "error": None}
    building = service.workspace.claiming(job_id)
    building.mkdir()
    (building / "tasks-status.json").write_text(json.dumps({**status, **more}))
    building.rename(service.workspace.job(job_id).path)
    seed.unlink()


def finish(service: Service, job_id: str) -> None:
    service.workspace.job(job_id).path.rename(service.workspace.finished(job_id).path)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def test_a_seed_is_dropped_as_it_is_and_its_id_printed(service: Service, popctl: Popctl, seed: Path) -> None:
    """The id is the name as a slug with six random characters; the bytes are the file's."""
    ran = popctl("submit", str(seed))
    job_id = ran.out.strip()
    assert (ran.code, ran.err) == (0, "")
    assert job_id.startswith("market-")
    assert dropped(service) == [f"{job_id}-seed.json"]
    assert service.workspace.seed(job_id).read_bytes() == seed.read_bytes()


def test_several_seeds_and_standard_input(service: Service, popctl: Popctl, seed: Path) -> None:
    """`-` reads a seed from standard input; every id is printed."""
    ran = popctl("--json", "submit", str(seed), "-", "--pipeline", "other", stdin='{"data": {}}')
    assert len(ran.document["ids"]) == 2
    for job_id in ran.document["ids"]:
        assert json.loads(service.workspace.seed(job_id).read_bytes())["pipeline"] == "other"


def test_attached_files_are_there_before_the_seed(service: Service, popctl: Popctl, seed: Path, tmp_path: Path) -> None:
    """They lie in the job's staging folder."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    attached = ["--attach", str(tmp_path / "a.txt"), "--attach", str(tmp_path / "b.txt")]
    assert popctl("submit", str(seed), "--id", "mine", *attached).out == "mine\n"
    assert sorted(path.name for path in (service.workspace.staging / "mine").iterdir()) == ["a.txt", "b.txt"]


def test_without_a_daemon_the_seed_is_dropped_all_the_same(alone: Popctl, seed: Path) -> None:
    """And stderr says that nobody works on it; waiting for nobody is exit code 3."""
    ran = alone("submit", str(seed), "--id", "mine")
    assert (ran.code, ran.out) == (0, "mine\n")
    assert "no daemon runs here" in ran.err
    assert (alone.root / "pipeline-data" / "pending" / "mine-seed.json").exists()
    assert alone("submit", str(seed), "--id", "other", "--wait").code == 3


@pytest.mark.parametrize(
    ("content", "code"),
    [("{", "invalid_json"), ('{"data": 1}', "invalid_seed"), ('{"data": {}, "data": {}}', "invalid_json")],
)
def test_a_wrong_seed_is_refused_and_none_is_dropped(
    service: Service, popctl: Popctl, seed: Path, content: str, code: str
) -> None:
    """Also when another seed of the same command is fine."""
    ran = popctl("--json", "submit", str(seed), "-", stdin=content)
    assert (ran.code, ran.document["code"]) == (1, code)
    assert dropped(service) == []


def test_the_size_limit_is_the_workspaces(service: Service, popctl: Popctl, seed: Path) -> None:
    """popctl reads the same setting as popd, from pop.toml or the environment."""
    (service.workspace.root / "pop.toml").write_text("[jobs]\nseed_max_bytes = 10\n")
    assert popctl("--json", "submit", str(seed)).document["code"] == "too_large"
    assert popctl("submit", str(seed), environment={"PO_JOBS__SEED_MAX_BYTES": "1000"}).code == 0


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (["missing.json"], 1),
        (["-", "--id", "not/an/id"], 1),
        (["-", "-", "--id", "one"], 2),
        (["-", "--attach", "missing.txt"], 1),
    ],
)
def test_what_cannot_be_submitted_leaves_nothing(
    service: Service, popctl: Popctl, words: list[str], exit_code: int
) -> None:
    """No seed, no half-made file."""
    assert popctl("submit", *words, stdin='{"data": {}}').code == exit_code
    assert dropped(service) == []


def test_an_id_that_waits_already_is_refused(service: Service, popctl: Popctl, seed: Path) -> None:
    """The first one stays."""
    popctl("submit", str(seed), "--id", "mine")
    ran = popctl("--json", "submit", "-", "--id", "mine", stdin='{"data": {}}')
    assert (ran.code, ran.document["code"]) == (1, "duplicate_job")
    assert service.workspace.seed("mine").read_bytes() == seed.read_bytes()


def test_waiting_ends_well_with_the_job(service: Service, popctl: Popctl, seed: Path) -> None:
    """Exit code 0 when it lies in complete/; progress goes to stderr."""
    process = popctl.start("submit", str(seed), "--id", "mine", "--wait")
    claim(service, "mine", "running", progress=50)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "mine\n"
    while "running, 50 %" not in (line := process.stderr.readline()):
        assert line
    finish(service, "mine")
    code, out, err = end(process)
    assert (code, out) == (0, "")
    assert "mine: done" in err


@pytest.mark.parametrize("state", ["error", "stopped"])
def test_waiting_ends_badly_with_the_job(service: Service, popctl: Popctl, seed: Path, state: str) -> None:
    """Exit code 1, and what to look at."""
    process = popctl.start("--json", "submit", str(seed), "--id", "mine", "--wait")
    claim(service, "mine", state, error={"reason": "exception", "message": "boom"})
    code, out, err = end(process)
    document = json.loads(out)
    assert (code, document["ok"], document["jobs"][0]["state"]) == (1, False, state)
    assert "popctl status mine" in err


def test_waiting_ends_with_a_rejection(service: Service, popctl: Popctl, seed: Path) -> None:
    """Its reason is told."""
    process = popctl.start("submit", str(seed), "--id", "mine", "--wait")
    eventually(service.workspace.seed("mine").exists)
    (service.workspace.rejected / "mine").mkdir()
    rejection = {"jobId": "mine", "reason": "unknown_pipeline", "message": "no pipeline 'x'"}
    (service.workspace.rejected / "mine" / "rejection.json").write_text(json.dumps(rejection))
    code, _, err = end(process)
    assert code == 1
    assert "mine: rejected: unknown_pipeline" in err
