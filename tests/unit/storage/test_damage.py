"""No damage to the files of one job stops a start, touches another job, or loses what a person might want back."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pop_actors.errors import Damaged
from pop_actors.storage import damage, recovery
from pop_actors.storage.job_inspection import inspect_job
from pop_actors.storage.layout import Workspace
from pop_actors.storage.repair import repair_job
from support.damage import DAMAGES, GARBAGE, JOB_FILES, job_in_the_middle, use_format_1

WHOLE = b'{"type":"A"}\n{"type":"B"}\n'


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def made(root: Path, *jobs: str) -> Workspace:
    use_format_1(root)
    workspace = Workspace(root, root / "pipeline-data")
    for folder in workspace.folders:
        folder.mkdir(parents=True, exist_ok=True)
    for job_id in jobs:
        job_in_the_middle(workspace.current, job_id)
    return workspace


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


ENDS = {
    "whole": (WHOLE, WHOLE, False),
    "empty": (b"", b"", False),
    "without its newline": (WHOLE[:-1], WHOLE, False),
    "torn": (WHOLE + b'{"type":"Ta', WHOLE, False),
    "torn at once": (WHOLE + b"{", WHOLE, False),
    "torn, zeros behind": (WHOLE + b'{"type":"Ta' + bytes(50), WHOLE, False),
    "zeros": (WHOLE + bytes(70_000), WHOLE, False),
    "zeros only": (bytes(9000), b"", False),
    "something else": (WHOLE + b"something else", WHOLE, True),
    "bytes": (WHOLE + GARBAGE.replace(b"\n", b""), WHOLE, True),
    "a list": (WHOLE + b"[1, 2]", WHOLE, True),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_log_ends_with_a_whole_line_and_nothing_but_a_torn_write_is_lost(tmp_path: Path, name: str) -> None:
    """What was not merely torn is kept beside; a second look changes nothing."""
    before, after, is_kept = ENDS[name]
    path = tmp_path / "log.jsonl"
    path.write_bytes(before)
    told = damage.mend_end(path)
    assert (path.read_bytes(), told is None) == (after, before == after)
    assert [copy.read_bytes() for copy in damage.copies_of(path)] == ([before] if is_kept else [])
    assert damage.mend_end(path) is None
    assert damage.mend_end(tmp_path / "absent") is None


def test_copies_get_free_names_and_the_same_is_kept_once(tmp_path: Path) -> None:
    """A kill between the copy and the repair leaves one copy, not two; a folder is put aside whole."""
    path = tmp_path / "a.json"
    for content in (b"one", b"one", b"two"):
        path.write_bytes(content)
        damage.keep_copy(path)
    assert [copy.read_bytes() for copy in damage.copies_of(path)] == [b"one", b"two"]
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert damage.keep_copy(path).name == "a.json.damaged-3"
    assert not path.exists()


@pytest.mark.parametrize("harm", sorted(DAMAGES))
@pytest.mark.parametrize("file", JOB_FILES)
def test_a_damaged_file_is_the_trouble_of_its_job_alone(tmp_path: Path, file: str, harm: str) -> None:
    """The other job is found as it was; this one goes on, or is shown in error and left as it is, log and all; doctor
    says something about it."""
    workspace = made(tmp_path, "hurt", "well")
    DAMAGES[harm](workspace.job("hurt").path / file)
    before, well = files_of(workspace.job("hurt").path), files_of(workspace.job("well").path)
    assert list(inspect_job(workspace, "hurt", live=False)) or file.startswith("tasks/research/checkpoint")
    found = recovery.recover(workspace)
    assert files_of(workspace.job("well").path) == {k: v for k, v in well.items() if k != "runner.pid"}
    assert "well" in [job.job_id for job in found.unfinished]
    assert ("hurt" in found.damaged) != ("hurt" in [job.job_id for job in found.unfinished])
    if "hurt" in found.damaged:
        assert file == "events.jsonl"
        document = found.damaged["hurt"].document
        assert (document["id"], document["state"]) == ("hurt", "error")
        assert "doctor --repair hurt" in document["error"]["message"]
        before.pop("runner.pid", None)
        assert files_of(workspace.job("hurt").path) == before


def _changes() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """A prefix is kept, some bytes are replaced, something is put behind."""

    def change(keep: float, at: float, new: bytes, behind: bytes) -> Callable[[bytes], bytes]:
        def apply(content: bytes) -> bytes:
            kept = content[: round(keep * len(content))]
            place = round(at * len(kept))
            return kept[:place] + new + kept[place + len(new) :] + behind

        return apply

    part = st.one_of(st.just(1.0), st.floats(0, 1))
    junk = st.one_of(st.just(b""), st.binary(max_size=40), st.integers(1, 3000).map(bytes), st.just(b"\n"))
    return st.builds(change, part, st.floats(0, 1), junk, junk)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder) / "template", "hurt", "well")
        yield Path(folder) / "template"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(harm=st.dictionaries(st.sampled_from(JOB_FILES), _changes(), min_size=1, max_size=3))
def test_arbitrary_damage_never_stops_a_start(template: Path, harm: dict[str, Callable[[bytes], bytes]]) -> None:
    """Whatever bytes several files of a job have: a start goes through, twice alike, keeps every byte that was not
    merely torn, and finds the other job as ever; doctor and a repair never fail otherwise than by saying why."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(template, root)
        workspace = Workspace(root, root / "pipeline-data")
        job = workspace.job("hurt")
        for name, change in harm.items():
            (job.path / name).write_bytes(change((job.path / name).read_bytes()))
        log = job.events.read_bytes()
        found = recovery.recover(workspace)
        known = [one.job_id for one in found.unfinished]
        assert "well" in known
        assert sorted({*known, *found.damaged}) == ["hurt", "well"]
        list(inspect_job(workspace, "hurt", live=False))
        if "hurt" in found.damaged:
            assert job.events.read_bytes() == log
            _repair(workspace)
        else:
            kept = job.events.read_bytes()
            assert log.startswith(kept.rstrip(b"\n")) or damage.copies_of(job.events) or _has_its_end(workspace, log)
        again = recovery.recover(workspace)
        assert sorted({*(one.job_id for one in again.unfinished), *again.damaged, *again.finished}) == ["hurt", "well"]


def _has_its_end(workspace: Workspace, log: bytes) -> bool:
    """Whether a line was added because the status knew the end."""
    *before, _ = workspace.job("hurt").events.read_bytes().splitlines(keepends=True)
    return log.startswith(b"".join(before).rstrip(b"\n"))


def _repair(workspace: Workspace) -> None:
    log = workspace.job("hurt").events.read_bytes()
    try:
        repair_job(workspace, "hurt", 1_800_000_000.0)
    except Damaged:
        assert workspace.job("hurt").events.read_bytes() == log
        return
    assert recovery.read_job(workspace, "hurt").document["state"] in {"pending", "error", "stopped", "done"}
    assert log in [copy.read_bytes() for copy in damage.copies_of(workspace.job("hurt").events)]
