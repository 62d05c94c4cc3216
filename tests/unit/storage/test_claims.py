"""Seeds leave pending/ whole, once, and to one place; what is no seed is not touched."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from pop_actors.errors import SeedRejected
from pop_actors.storage import claims, moves
from pop_actors.storage.claims import JobFiles, NotASeed, SeedChanged, SeedFile
from pop_actors.storage.layout import Workspace

SEED = b'{"data": {}}'
FILES = JobFiles(b"{}", b'{"type": "JobCreated"}\n', b"{}\n")
NOW = 1_760_000_000.0


def drop(workspace: Workspace, job_id: str = "j", content: bytes = SEED) -> SeedFile:
    workspace.seed(job_id).write_bytes(content)
    return claims.read_seed(workspace.seed(job_id), 1000)


def stage(workspace: Workspace, *names: str) -> None:
    folder = workspace.staging / "j"
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)


def test_a_claimed_seed_is_a_whole_job_and_gone_from_pending(workspace: Workspace) -> None:
    """The bytes are the dropped file itself; nothing half-made stays."""
    seed = drop(workspace)
    assert claims.claim(workspace, "j", seed, FILES)
    job = workspace.job("j")
    assert (job.seed.read_bytes(), job.seed.stat().st_ino) == (SEED, seed.inode)
    assert (job.pipeline.read_bytes(), job.events.read_bytes(), job.status.read_bytes()) == (
        FILES.pipeline,
        FILES.events,
        FILES.status,
    )
    assert os.listdir(workspace.pending) == []
    assert os.listdir(workspace.current) == ["j"]


def test_attachments_come_along(workspace: Workspace) -> None:
    """Plain files of staging/{jobId}/ are moved to files/artifacts; links and folders stay where they are."""
    stage(workspace, "data.csv", "ä.txt")
    (workspace.staging / "j" / "sub").mkdir()
    (workspace.staging / "j" / "link").symlink_to("/etc/passwd")
    names = claims.attachments(workspace, "j")
    assert names == ("data.csv", "ä.txt")
    claims.claim(workspace, "j", drop(workspace), JobFiles(b"{}", b"", b"", names))
    artifacts = workspace.job("j").files("artifacts")
    assert sorted(os.listdir(artifacts)) == ["data.csv", "ä.txt"]
    assert sorted(os.listdir(workspace.staging / "j")) == ["link", "sub"]


def test_an_emptied_staging_folder_goes(workspace: Workspace) -> None:
    """Nothing of a claimed job is left in staging/."""
    stage(workspace, "data.csv")
    claims.claim(workspace, "j", drop(workspace), JobFiles(b"{}", b"", b"", ("data.csv",)))
    assert os.listdir(workspace.staging) == []
    assert claims.attachments(workspace, "j") == ()


@pytest.mark.parametrize("place", ["current", "complete"])
def test_a_second_seed_of_an_id_is_a_duplicate(workspace: Workspace, place: str) -> None:
    """Whether the first is at work or done; the second stays in pending/ for its rejection."""
    (getattr(workspace, place) / "j").mkdir()
    seed = drop(workspace)
    with pytest.raises(SeedRejected) as caught:
        claims.claim(workspace, "j", seed, FILES)
    assert caught.value.reason == "duplicate_job"
    assert workspace.seed("j").read_bytes() == SEED


def test_the_same_bytes_dropped_again_are_a_duplicate_too(workspace: Workspace) -> None:
    """Only the very file that was claimed is what is left of a claim."""
    claims.claim(workspace, "j", drop(workspace), FILES)
    seed = drop(workspace)
    with pytest.raises(SeedRejected):
        claims.claim(workspace, "j", seed, FILES)


def test_what_is_left_of_a_claim_is_taken_away(workspace: Workspace) -> None:
    """The claimed file's old name in pending/ is removed and no job is made or rejected."""
    seed = drop(workspace)
    claims.claim(workspace, "j", seed, FILES)
    os.link(workspace.job("j").seed, workspace.seed("j"))
    assert claims.claim(workspace, "j", seed, FILES) is False
    assert os.listdir(workspace.pending) == []
    assert not claims.drop_claimed_name(workspace, "j")


@pytest.mark.parametrize("content", [SEED + b" ", b'{"data": []}'])
def test_a_seed_that_changed_since_it_was_read_is_not_claimed(workspace: Workspace, content: bytes) -> None:
    """A writer that goes on, or another file of that name: it is to be read again."""
    seed = drop(workspace)
    facts = workspace.seed("j").stat()
    workspace.seed("j").write_bytes(content)
    os.utime(workspace.seed("j"), ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    with pytest.raises(SeedChanged):
        claims.claim(workspace, "j", seed, FILES)
    assert workspace.seed("j").read_bytes() == content
    assert os.listdir(workspace.current) == []


def test_a_seed_that_went_away_is_no_job(workspace: Workspace) -> None:
    """Its owner took it back in time."""
    seed = drop(workspace)
    workspace.seed("j").unlink()
    with pytest.raises(FileNotFoundError):
        claims.claim(workspace, "j", seed, FILES)
    assert os.listdir(workspace.current) == []


def test_a_claim_that_fails_puts_everything_back(workspace: Workspace) -> None:
    """An attachment that is missing: seed and the others are where they were."""
    stage(workspace, "a.csv")
    seed = drop(workspace)
    with pytest.raises(FileNotFoundError):
        claims.claim(workspace, "j", seed, JobFiles(b"{}", b"", b"", ("a.csv", "missing.csv")))
    assert os.listdir(workspace.current) == []
    assert os.listdir(workspace.staging / "j") == ["a.csv"]
    assert claims.claim(workspace, "j", seed, JobFiles(b"{}", b"", b"", ("a.csv",)))


def test_where_links_are_forbidden_the_seed_is_copied(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's file under protected_hardlinks: same bytes, same time, and gone from pending/."""

    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    seed = drop(workspace)
    monkeypatch.setattr(moves.os, "link", no_link)
    assert claims.claim(workspace, "j", seed, FILES)
    job = workspace.job("j")
    assert (job.seed.read_bytes(), job.seed.stat().st_mtime_ns) == (SEED, seed.mtime_ns)
    assert job.seed.stat().st_ino != seed.inode
    assert os.listdir(workspace.pending) == []


ODD = {
    "a symlink": lambda path: path.symlink_to("/etc/hostname"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a dangling symlink": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_never_touched(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Neither read, nor claimed, nor rejected; and nobody waits for a pipe's writer."""
    monkeypatch.chdir(workspace.pending)
    ODD[kind](Path("j-seed.json"))
    before = workspace.seed("j").lstat()
    with pytest.raises(NotASeed):
        claims.read_seed(workspace.seed("j"), 1000)
    with pytest.raises(NotASeed):
        claims.claim(workspace, "j", SeedFile(b"", 0, 0, 0, 0), FILES)
    with pytest.raises(NotASeed):
        claims.reject(workspace, "j", "invalid_json", "no", NOW)
    after = workspace.seed("j").lstat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    assert os.listdir(workspace.current) == os.listdir(workspace.rejected) == []


def test_reading_stops_one_byte_beyond_the_limit(workspace: Workspace) -> None:
    """Enough to tell that it is too large, and no more memory than that."""
    workspace.seed("j").write_bytes(b"x" * 5000)
    seed = claims.read_seed(workspace.seed("j"), 1000)
    assert (len(seed.content), seed.size) == (1001, 5000)


def test_a_rejection_keeps_the_bytes_and_says_why(workspace: Workspace) -> None:
    """However large they are; the directory appears whole."""
    content = b"x" * 3_000_000
    workspace.seed("j").write_bytes(content)
    place = claims.reject(workspace, "j", "too_large", "the seed is larger than …", NOW)
    assert place == workspace.rejected / "j"
    assert (place / "seed.json").read_bytes() == content
    assert json.loads((place / "rejection.json").read_text()) == {
        "jobId": "j",
        "reason": "too_large",
        "message": "the seed is larger than …",
        "rejectedAt": "2025-10-09T08:53:20.000Z",
    }
    assert os.listdir(workspace.pending) == []
    assert claims.reject(workspace, "j", "too_large", "again", NOW) is None


def test_a_taken_name_gets_a_number(workspace: Workspace) -> None:
    """Directories, empty ones too, and files of that name are left as they are."""
    (workspace.rejected / "j").mkdir()
    (workspace.rejected / "j.2").write_text("a file")
    places = []
    for content in (b"one", b"two"):
        drop(workspace, "j", content)
        places.append(claims.reject(workspace, "j", "invalid_json", "no", NOW))
    assert places == [workspace.rejected / "j.3", workspace.rejected / "j.4"]
    assert os.listdir(workspace.rejected / "j") == []
    assert (workspace.rejected / "j.4" / "seed.json").read_bytes() == b"two"


def test_a_dropped_seed_is_whole_and_replaces_nobody(workspace: Workspace) -> None:
    """Who submits with an id in use is told so; nothing unfinished stays in staging/."""
    assert claims.drop_seed(workspace, "j", SEED) == workspace.seed("j")
    with pytest.raises(SeedRejected):
        claims.drop_seed(workspace, "j", b"other")
    assert workspace.seed("j").read_bytes() == SEED
    assert claims.claim(workspace, "j", claims.read_seed(workspace.seed("j"), 1000), FILES)
    with pytest.raises(SeedRejected):
        claims.drop_seed(workspace, "j", b"other")
    assert os.listdir(workspace.pending) == os.listdir(workspace.staging) == []
