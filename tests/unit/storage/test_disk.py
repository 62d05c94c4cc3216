"""The seam to the disk: what is refused leaves nothing torn, and a failed fsync is not trusted afterwards."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pop_actors.errors import SettingsError
from pop_actors.storage import claims, disk, fault_points, files, finish, moves
from pop_actors.storage.jsonl import AppendLog, read_lines
from pop_actors.storage.layout import JobDirectory, Workspace
from support.lossy_disk import LossyDisk

PACKAGE = Path(disk.__file__).parents[1]

# What changes a disk, and who may do so past the seam.
CHANGES = re.compile(
    r"\bos\.(write|pwrite|writev|fsync|fdatasync|sync|rename|renames|replace|link|symlink|unlink|remove|mkdir|makedirs"
    r"|rmdir|removedirs|ftruncate|truncate|utime|fchmod|chmod|mknod|mkfifo|sendfile|copy_file_range)\("
    r"|\bos\.open\([^)]*O_(CREAT|WRONLY|RDWR|TRUNC)"
    r"|\bshutil\.(copy|move|rmtree)"
    r"|\.(write_text|write_bytes|mkdir|rmdir|unlink|touch|rename|symlink_to|hardlink_to)\("
    r"|\bopen\([^)]*[\"'][awx]b?\+?[\"']"
)
PAST_THE_SEAM = {
    "actors": "sockets, pipes, /proc and cgroups, which are no disk; usable without the rest",
    "api/sockets.py": "a socket's file, made again by each start",
    "cli": "popctl runs in a process of its own, for people",
    "providers/claude_code.py": "a temporary folder with a pipe, gone with its call",
    "storage/control_socket.py": "a socket's folder, made again by each start",
    "storage/disk_trace.py": "the record of what goes through the seam",
    "storage/temporary_folder.py": "the daemon's temporary files, of no use to the next start",
    "storage/workspace_lock.py": "the lock's file, held and never read",
    "storage/scaffold.py": "popctl's init, which never overwrites",
}
SEAM_NAMES = re.compile(r"\bdisk\.\w+\(")


@pytest.fixture(autouse=True)
def untapped() -> Iterator[None]:
    yield
    fault_points.arm(None)


@pytest.fixture
def lossy() -> LossyDisk:
    made = LossyDisk()
    disk.tap(made)
    return made


def test_nobody_changes_the_disk_past_the_seam() -> None:
    """Every call that does is in disk.py, but for the listed exceptions, each with its reason."""
    past = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "storage/disk.py" or any(name == one or name.startswith(f"{one}/") for one in PAST_THE_SEAM):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = SEAM_NAMES.sub("", line.split("  # ")[0])
            if CHANGES.search(code):
                past.append(f"{name}:{number}: {line.strip()}")
    assert past == []


def test_a_log_writes_again_what_a_failed_sync_may_have_lost(tmp_path: Path, lossy: LossyDisk) -> None:
    """The kernel drops dirty pages when an fsync fails, and says yes to the next one; the lines are there all the same,
    once each and in order."""
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])
    log.sync()
    log.append([{"n": 2}])
    lossy.failing_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        log.sync()
    log.append([{"n": 3}])
    log.sync()
    log.close()
    lossy.cut_the_power()
    assert [document["n"] for _, document in read_lines(tmp_path / "log.jsonl")] == [1, 2, 3]


def test_a_log_that_did_not_would_lose_them(tmp_path: Path, lossy: LossyDisk) -> None:
    """The lossy disk of these tests does lose what was written before a failed fsync."""
    descriptor = disk.open_file(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    files.write_all(descriptor, b"lost")
    lossy.failing_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        disk.fsync(descriptor)
    files.write_all(descriptor, b"kept")
    disk.fsync(descriptor)
    os.close(descriptor)
    lossy.cut_the_power()
    assert (tmp_path / "file").read_bytes() == b"\0\0\0\0kept"


def test_a_durable_replace_starts_over_after_a_failed_sync(tmp_path: Path, lossy: LossyDisk) -> None:
    """The old file stands until a new temporary file was synced; the failed one is gone."""
    path = tmp_path / "a.json"
    files.replace(path, b"old", durable=True)
    lossy.failing_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        files.replace(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]
    files.replace(path, b"new", durable=True)
    lossy.cut_the_power()
    assert path.read_bytes() == b"new"


def test_a_log_that_nobody_syncs_keeps_a_bounded_part_of_itself(tmp_path: Path, lossy: LossyDisk) -> None:
    """Beyond some megabytes an append syncs by itself, so memory does not grow with the log."""
    log = AppendLog(tmp_path / "log.jsonl")
    for _ in range(24):
        log.append([{"pad": "x" * 1_000_000}])
    log.close()
    assert lossy.syncs == 4


def test_a_refused_line_leaves_no_half_and_is_written_next_time(tmp_path: Path) -> None:
    """Where the disk is full in the middle of a line, the half that fitted is cut off again."""
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])
    fault_points.arm("runner.asked:enospc")
    fault_points.reach("runner.asked")
    with pytest.raises(OSError, match="No space left"):
        log.append([{"n": 2}, {"n": 3}])
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"n":1}\n'
    log.append([{"n": 2}, {"n": 3}])
    log.close()
    assert [document["n"] for _, document in read_lines(tmp_path / "log.jsonl")] == [1, 2, 3]


def test_a_half_line_that_could_not_be_cut_is_cut_before_the_next(tmp_path: Path) -> None:
    """A disk that refuses the cut too is asked again; the log never holds a line glued to half of another."""
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])
    refuse_once = [True, True]

    def refusing(act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if act is os.write and len(refuse_once) == 2:
            os.write(arguments[0], b'{"n"')
            refuse_once.pop()
            raise OSError(errno.EIO, "a bad day")
        if act is os.ftruncate and refuse_once:
            refuse_once.pop()
            raise OSError(errno.EIO, "a bad day")
        return act(*arguments, **options)

    disk.tap(refusing)
    with pytest.raises(OSError, match="a bad day"):
        log.append([{"n": 2}])
    log.append([{"n": 2}])
    log.close()
    assert [document["n"] for _, document in read_lines(tmp_path / "log.jsonl")] == [1, 2]


def make_folder(root: Path) -> None:
    disk.make_folder(root / "a" / "b")


def open_log(root: Path) -> None:
    AppendLog(root / "log").close()


GROWING: dict[str, Callable[[Path], object]] = {
    "a new file": lambda root: files.write_new(root / "new", b"x"),
    "a replaced file": lambda root: files.replace(root / "there", b"x"),
    "a file in place": lambda root: files.write_first(root / "there", b"x"),
    "a folder": make_folder,
    "a second name": lambda root: moves.take(root / "there", root / "second"),
    "a log": open_log,
}


@pytest.mark.parametrize("what", GROWING)
def test_a_disk_is_full_while_a_file_says_so(tmp_path: Path, what: str) -> None:
    """Whatever needs room is refused as long as the file exists, leaves nothing behind, and works afterwards."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "there").write_bytes(b"")
    flag = tmp_path / "full"
    fault_points.arm(f"full-while={flag}")
    flag.touch()
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            GROWING[what](root)
    assert os.listdir(root) == ["there"]
    disk.rename(root / "there", root / "moved")
    disk.rename(root / "moved", root / "there")
    disk.unlink(root / "there")
    (root / "there").write_bytes(b"")
    flag.unlink()
    GROWING[what](root)


@pytest.mark.parametrize("kind", ["enospc", "eio"])
def test_a_disk_refuses_a_few_changes_from_a_point_on(tmp_path: Path, kind: str) -> None:
    """Nothing before the named passage, a few after it, then it is well again."""
    fault_points.arm(f"claim.linked:2:{kind}")
    fault_points.reach("claim.linked")
    files.write_new(tmp_path / "before", b"x", durable=True)
    fault_points.reach("claim.linked")
    for number in range(2):
        with pytest.raises(OSError) as refused:  # noqa: PT011  (the number says it)
            files.write_new(tmp_path / f"{number}", b"x", durable=True)
        assert refused.value.errno == {"enospc": errno.ENOSPC, "eio": errno.EIO}[kind]
    files.write_new(tmp_path / "after", b"x", durable=True)
    assert sorted(os.listdir(tmp_path)) == ["after", "before"]


@pytest.mark.parametrize(
    "text",
    ["nowhere", "claim.linked:0", "claim.linked:stop:2", "claim.linked:", "claim.linked:full", "claim.linked:1:2", ","],
)
def test_a_fault_that_is_none_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SettingsError, match=r"must be one of claim\.linked"):
        fault_points.arm(text)


def test_a_job_is_armed_with_what_concerns_it() -> None:
    """Its own points once; what lasts, in every process that takes it up."""
    text = "runner.asked:stop,call.sent:eio,record=/r,full-while=/f"
    assert fault_points.for_runner(text) == "runner.asked:stop,record=/r,full-while=/f"
    assert fault_points.lasting(text) == "record=/r,full-while=/f"
    assert fault_points.for_resumed(text) == "record=/r,full-while=/f"
    assert fault_points.for_resumed("runner.code-changed:stop,runner.asked") == "runner.code-changed:stop"
    assert fault_points.for_runner("call.sent") is None
    assert fault_points.lasting(None) is None


def test_a_claim_whose_rename_cannot_be_synced_is_undone_and_works_the_next_time(workspace: Workspace) -> None:
    """After the error the seed and what is attached lie where they were; the same claim then makes the job."""
    workspace.seed("j").write_bytes(b'{"data": {}}')
    (workspace.staging / "j").mkdir()
    (workspace.staging / "j" / "a.csv").write_bytes(b"1,2")
    seed = claims.read_seed(workspace.seed("j"), 1000)
    new = claims.JobFiles(pipeline=b"{}", events=b"{}\n", status=b"{}", attached=("a.csv",), tasks=("one", "two"))
    fault_points.arm("claim.renamed:eio")
    with pytest.raises(OSError, match="Input/output"):
        claims.claim(workspace, "j", seed, new)
    assert os.listdir(workspace.current) == []
    assert workspace.seed("j").read_bytes() == b'{"data": {}}'
    assert (workspace.staging / "j" / "a.csv").read_bytes() == b"1,2"
    fault_points.arm(None)
    assert claims.claim(workspace, "j", seed, new)
    job = workspace.job("j")
    assert sorted(os.listdir(job.tasks)) == ["one", "two"]
    assert (job.files("artifacts") / "a.csv").read_bytes() == b"1,2"
    assert (os.listdir(workspace.pending), os.listdir(workspace.staging)) == ([], [])


def test_a_finished_job_that_cannot_be_reopened_durably_stays_finished(workspace: Workspace) -> None:
    """It is in complete/ as before, and can be reopened later."""
    workspace.finished("j").path.mkdir()
    fault_points.arm("reopen.renamed:eio")
    with pytest.raises(OSError, match="Input/output"):
        finish.reopen(workspace, "j")
    assert (os.listdir(workspace.current), os.listdir(workspace.complete)) == ([], ["j"])
    fault_points.arm(None)
    finish.reopen(workspace, "j")
    assert (os.listdir(workspace.current), os.listdir(workspace.complete)) == (["j"], [])


@pytest.mark.parametrize("place", ["current/j", "complete/j", "rejected/j", "rejected/j.2"])
def test_names_that_a_power_cut_brought_back_are_dropped(workspace: Workspace, place: str) -> None:
    """A seed in pending/, and a file in staging/, that are the very files of a job or a rejection, are no new ones."""
    for number in ["j"] if place == "rejected/j.2" else []:
        (workspace.rejected / number).mkdir()
    job = JobDirectory(workspace.data / place)
    job.files("artifacts").mkdir(parents=True)
    (workspace.staging / "j").mkdir()
    for there, back in ((job.seed, workspace.seed("j")), (job.files("artifacts") / "a", workspace.staging / "j" / "a")):
        there.write_bytes(b"x")
        os.link(there, back)
    assert claims.drop_claimed_name(workspace, "j")
    assert (os.listdir(workspace.pending), os.listdir(workspace.staging)) == ([], [])
    workspace.seed("j").write_bytes(b"x")
    assert not claims.drop_claimed_name(workspace, "j")


def test_a_seed_rejected_before_and_dropped_anew_is_another(workspace: Workspace) -> None:
    """Same bytes, another file: it is judged again."""
    JobDirectory(workspace.rejected / "j").path.mkdir()
    JobDirectory(workspace.rejected / "j").seed.write_bytes(b"x")
    workspace.seed("j").write_bytes(b"x")
    assert not claims.drop_claimed_name(workspace, "j")
    assert workspace.seed("j").exists()


def test_what_a_killed_replace_left_is_dropped(tmp_path: Path) -> None:
    """The temporary file of another process goes; this one's own, and a user's file of a like name, stay."""
    names = [f"a.json{files.TEMPORARY}999999999", f"b.json{files.TEMPORARY}{os.getpid()}", "c.tmp-12", "a.json"]
    for name in names:
        (tmp_path / name).touch()
    files.drop_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])
