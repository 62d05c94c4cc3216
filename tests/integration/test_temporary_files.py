"""What a daemon puts into the folder for temporary files does not pile up, however often it is killed."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.storage.temporary_folder import temporary_folder
from support.daemon import Daemon, Workspace, wait_until
from support.processes import of_session, send


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Short, as such folders are: a socket's path has its limit."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def test_a_start_removes_what_a_killed_daemon_left(tmp_path: Path, temporary: Path) -> None:
    """Two kills, one run that ends well: nothing is there any more."""
    workspace = Workspace(tmp_path)
    workspace.add_noop_pipeline()
    for _ in range(2):
        daemon = Daemon(workspace, {"TMPDIR": str(temporary)})
        daemon.start()
        daemon.wait_until_ready()
        for process in of_session(daemon.pid):
            send(process.pid, signal.SIGKILL)
        assert daemon.process is not None
        daemon.process.wait(10)
        wait_until(lambda d=daemon: not of_session(d.pid), 10, "all of it to die")
        left = [path for path in temporary.rglob("*") if path.is_socket()]
        assert len(left) == 1
    with Daemon(workspace, {"TMPDIR": str(temporary)}) as last:
        workspace.drop("a")
        wait_until(lambda: workspace.is_complete("a"), 20, "a job to be done")
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in last.text_of_log()


def test_a_folder_of_somebody_else_is_not_touched(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a name anybody can foresee there may lie anything: then the usual place has to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with temporary_folder(tmp_path):
        own = Path(tempfile.gettempdir())
    own.mkdir(mode=0o755)
    (own / "theirs").touch()
    with temporary_folder(tmp_path):
        assert tempfile.gettempdir() == str(temporary)
    assert (own / "theirs").exists()


def test_a_link_in_the_folder_is_removed_and_not_followed(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leads to stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with temporary_folder(tmp_path):
        own = Path(tempfile.gettempdir())
    (tmp_path / "kept").touch()
    own.mkdir(mode=0o700)
    (own / "link").symlink_to(tmp_path)
    with temporary_folder(tmp_path):
        assert list(own.iterdir()) == []
    assert (tmp_path / "kept").exists()
