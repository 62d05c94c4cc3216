"""Seeds that come in every way a person or program drops them, and names in pending/ that are none."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance_world import GOOD, end_of, quick_workspace, run

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

SEEDS_AT_ONCE = 500


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(quick_workspace(tmp_path_factory.mktemp("accepted"))) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


def test_a_seed_renamed_into_pending_becomes_a_complete_job(daemon: Daemon, workspace: Workspace) -> None:
    """The usual way: written elsewhere, renamed in; the seed's bytes are kept, and pending/ is empty of it."""
    content = b'{"data": {"a": [1, 2.5, null]},   "extra": "kept"}'
    workspace.drop("renamed", content)
    assert end_of(daemon, "renamed") == "done"
    assert (workspace.data / "complete" / "renamed" / "seed.json").read_bytes() == content
    assert not (workspace.data / "pending" / "renamed-seed.json").exists()


def test_a_seed_written_slowly_in_place_is_taken_once_it_is_whole(daemon: Daemon, workspace: Workspace) -> None:
    """A writer that pauses for less than the settle time between pieces loses nothing, and is not turned down."""
    content = json.dumps({"data": {"text": "x" * 2000}, "name": "slow"}).encode()
    path = workspace.data / "pending" / "slow-seed.json"
    fence = 0
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), 700):
            file.write(content[start : start + 700])
            fence += 1
            run(daemon, f"slow-fence-{fence}", GOOD)  # the watcher has looked at pending/ since
            assert path.exists()
    assert end_of(daemon, "slow") == "done"
    assert (workspace.data / "complete" / "slow" / "seed.json").read_bytes() == content


def test_pending_may_be_deleted_and_made_again(daemon: Daemon, workspace: Workspace) -> None:
    """A folder of the same name is watched as the old one was."""
    (workspace.data / "pending").rmdir()
    workspace.drop("into-new-folder")
    assert end_of(daemon, "into-new-folder") == "done"
    began = time.monotonic()
    for number in range(5):
        run(daemon, f"into-new-folder-{number}", GOOD)
    assert time.monotonic() - began < 5, "seeds are found by the slow look-around only"


def test_a_byte_order_mark_is_accepted(daemon: Daemon, workspace: Workspace) -> None:
    """A BOM before the JSON does no harm."""
    workspace.drop("marked", b"\xef\xbb\xbf" + b'{"data": {}}')
    assert end_of(daemon, "marked") == "done"


def test_the_longest_job_id_and_every_allowed_character_work(daemon: Daemon, workspace: Workspace) -> None:
    """128 characters of letters, digits, _ and -."""
    for job_id in ("a" * 128, "0", "A_b-C"):
        workspace.drop(job_id)
        assert end_of(daemon, job_id) == "done"


def test_names_that_are_no_seeds_are_warned_of_once_and_never_touched(daemon: Daemon, workspace: Workspace) -> None:
    """Folders, symlinks, pipes' kin and odd names stay as they are while other seeds go through."""
    pending = workspace.data / "pending"
    target = workspace.root / "elsewhere.json"
    target.write_text('{"data": {}}', encoding="utf-8")
    names = (
        "..-seed.json", "a b-seed.json", ".hidden-seed.json", "-dash-seed.json", "ä-seed.json", "a.b-seed.json",
        "-seed.json", "seed.json", "no-suffix", "x-seed.json.tmp", "y" * 129 + "-seed.json", "z" * 240 + "-seed.json",
    )  # fmt: skip
    for name in names:
        (pending / name).write_text('{"data": {}}', encoding="utf-8")
    (pending / "folder-seed.json").mkdir()
    (pending / "link-seed.json").symlink_to(target)
    (pending / "dangling-seed.json").symlink_to(workspace.root / "nowhere")
    odd = {*names, "folder-seed.json", "link-seed.json", "dangling-seed.json"}
    try:
        wait_until(lambda: odd <= _warned_of(daemon).keys(), 10, "a warning for each", daemon)
        for number in range(3):
            run(daemon, f"beside-odd-names-{number}", GOOD)
        (pending / names[0]).touch()  # a new hint is no second warning
        run(daemon, "beside-odd-names-touched", GOOD)
        assert {name: _warned_of(daemon)[name] for name in odd} == dict.fromkeys(odd, 1)
        assert odd <= {entry.name for entry in pending.iterdir()}
        assert (pending / "link-seed.json").is_symlink()
        assert target.read_text(encoding="utf-8") == '{"data": {}}'
    finally:
        (pending / "folder-seed.json").rmdir()
        for name in odd - {"folder-seed.json"}:
            (pending / name).unlink()


def _warned_of(daemon: Daemon) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in daemon.text_of_log().splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            if record["level"] == "warning" and "file" in record:
                counts[record["file"]] = counts.get(record["file"], 0) + 1
    return counts


@pytest.mark.timeout(120)
def test_many_seeds_at_once_end_exactly_once_each(tmp_path: Path) -> None:
    """Good and bad seeds, dropped before the start and while it runs: each ends in one place, each run has one line."""
    workspace = quick_workspace(tmp_path)
    bad = {f"job-{number}" for number in range(0, SEEDS_AT_ONCE, 25)}
    names = [f"job-{number}" for number in range(SEEDS_AT_ONCE)]
    half = SEEDS_AT_ONCE // 2
    for name in names[:half]:
        workspace.drop(name, [] if name in bad else None)
    with Daemon(workspace) as daemon:
        for name in names[half:]:
            workspace.drop(name, [] if name in bad else None)
        good = [name for name in names if name not in bad]
        ended = workspace.data / "complete"
        wait_until(lambda: len(list(ended.glob("job-*"))) == len(good), 60, "all good jobs", daemon)
        wait_until(lambda: all(workspace.rejection(name) for name in bad), 20, "all rejections", daemon)
        assert list((workspace.data / "pending").iterdir()) == []
        assert list((workspace.data / "current").iterdir()) == []
        assert sorted(run["id"] for run in workspace.runs()) == sorted(good)
        assert {entry.name for entry in (workspace.data / "rejected").iterdir()} == bad
        assert len({run["pipelineId"] for run in workspace.runs()}) == len(good)


def test_seeds_are_claimed_by_priority_then_age_then_id(tmp_path: Path) -> None:
    """With one slot, seeds that lay there before the start run in rank, whatever the order of their names."""
    workspace = quick_workspace(tmp_path)
    workspace.settings("[http]\nport = 0\n[jobs]\nmax_running = 1\n")
    for job_id, priority in (("c", 0), ("a", 5), ("d", -1), ("b", 5)):
        workspace.drop(job_id, {"data": {}, "priority": priority})
    pending = workspace.data / "pending"
    os.utime(pending / "a-seed.json", (2_000, 2_000))
    os.utime(pending / "b-seed.json", (1_000, 1_000))
    os.utime(pending / "c-seed.json", (500, 500))
    workspace.drop("e", {"data": {}})
    os.utime(pending / "e-seed.json", (500, 500))
    with Daemon(workspace) as daemon:
        wait_until(lambda: len(workspace.runs()) == 5, 20, "all jobs", daemon)
    assert [run["id"] for run in workspace.runs()] == ["b", "a", "c", "e", "d"]


def test_a_seed_that_changes_or_goes_while_it_waits_is_taken_as_it_is_then(
    daemon: Daemon, workspace: Workspace
) -> None:
    """Until it is claimed a seed belongs to who dropped it: the newest content counts, and a removed one never runs."""
    assert daemon.ctl("pause").returncode == 0
    try:
        for job_id in ("rewritten", "withdrawn"):
            workspace.drop(job_id, {"data": {"version": 1}})
        wait_until(lambda: {"rewritten", "withdrawn"} <= _listed(daemon), 10, "both to be seen", daemon)
        workspace.drop("rewritten", {"data": {"version": 2}})
        (workspace.data / "pending" / "withdrawn-seed.json").unlink()
        wait_until(lambda: "withdrawn" not in _listed(daemon), 10, "the second to be forgotten", daemon)
    finally:
        daemon.ctl("resume")
    assert end_of(daemon, "rewritten") == "done"
    seed = json.loads((workspace.data / "complete" / "rewritten" / "seed.json").read_bytes())
    assert seed["data"] == {"version": 2}
    assert workspace.status("withdrawn") is None


def _listed(daemon: Daemon) -> set[str]:
    return {job["id"] for job in json.loads(daemon.ctl("--json", "list").stdout)}


def test_files_in_staging_come_along_as_artifacts(daemon: Daemon, workspace: Workspace) -> None:
    """What waits in staging/{jobId}/ is in files/artifacts/ of the job, and indexed."""
    staging = workspace.data / "staging" / "attached"
    staging.mkdir(parents=True)
    (staging / "notes.txt").write_text("hello", encoding="utf-8")
    workspace.add_pipeline(
        "reads", {"read": "def ingestion(ctx):\n    return {'output': ctx.io.read_artifact('notes.txt')}\n"}
    )
    status = run(daemon, "attached", "reads")
    assert status["state"] == "done"
    assert status["files"]["artifacts"] == ["notes.txt"]
    assert not staging.exists()


def test_unknown_keys_reach_the_tasks(daemon: Daemon, workspace: Workspace) -> None:
    """The whole seed, as parsed, is data["seed"] and the first output."""
    source = "def ingestion(ctx):\n    return {'output': [ctx.data['seed'], ctx.output, ctx.previous_stage]}\n"
    workspace.add_pipeline("echo", {"echo": source}, entries=[{"name": "echo"}])
    seed = {"data": {"k": [1]}, "pipeline": "echo", "myOwn": {"deep": True}}
    workspace.drop("echoed", seed)
    assert end_of(daemon, "echoed") == "done"
    document = json.loads((workspace.data / "complete" / "echoed" / "tasks" / "echo" / "output.json").read_bytes())
    assert document["echo"]["content"] == [seed, seed, "seed"]


def test_a_seed_without_a_pipeline_needs_a_default(tmp_path: Path) -> None:
    """The registry's default is taken; where there is none the seed is turned down."""
    workspace = Workspace(tmp_path)
    workspace.add_pipeline(GOOD, {"only": NOOP_TASK})
    registry = workspace.root / "pipeline-config" / "registry.json"
    document = json.loads(registry.read_bytes())
    del document["default"]
    registry.write_text(json.dumps(document), encoding="utf-8")
    with Daemon(workspace) as daemon:
        workspace.drop("homeless")
        assert end_of(daemon, "homeless") == "rejected"
        rejection = workspace.rejection("homeless")
        assert rejection is not None
        assert rejection["reason"] == "unknown_pipeline"
        workspace.drop("at-home", {"data": {}, "pipeline": GOOD})
        assert end_of(daemon, "at-home") == "done"
