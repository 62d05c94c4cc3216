"""Where the control socket is: daemon and popctl agree, however long the workspace's path is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pop_actors.errors import SettingsError
from pop_actors.storage import fault_points
from pop_actors.storage.control_socket import LONGEST_PATH_BYTES, find, fits, take


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A state folder whose path is too long for a socket."""
    folder = tmp_path / ("d" * 60) / ("e" * 60) / "state"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def short() -> Path:
    """A folder with a short path, as XDG_RUNTIME_DIR has."""
    return Path("/tmp")


def test_the_default_is_beside_the_state() -> None:
    """No word is left where nothing unusual was chosen."""
    assert find(Path("/nowhere/state")) == Path("/nowhere/state/popd.sock")


def test_a_path_that_fits_is_taken(tmp_path: Path) -> None:
    """The default, and a word of an earlier choice is taken back."""
    state = tmp_path / "s"
    state.mkdir()
    (state / "popd.sock.path").write_text("/elsewhere")
    if not fits(state / "popd.sock"):
        pytest.skip("the temporary folder's own path is too long")
    assert take(state, None, None, "/tmp") == state / "popd.sock" == find(state)


def test_a_path_that_is_too_long_moves_to_a_private_folder(deep: Path, short: Path) -> None:
    """It is the same at every start, nobody else may enter it, and popctl finds it."""
    chosen = take(deep, None, str(short), "/tmp")
    try:
        assert len(str(chosen)) < LONGEST_PATH_BYTES
        assert chosen.parent.parent == short
        assert stat.S_IMODE(chosen.parent.stat().st_mode) == 0o700
        assert find(deep) == chosen == take(deep, None, str(short), "/tmp")
    finally:
        chosen.parent.rmdir()


def test_a_full_disk_does_not_stop_a_start_that_changes_nothing(deep: Path, short: Path) -> None:
    """The word that an earlier start left is good; only another path needs room for another word."""
    chosen = take(deep, None, str(short), "/tmp")
    full = deep / "full"
    full.touch()
    fault_points.arm(f"full-while={full}")
    try:
        assert take(deep, None, str(short), "/tmp") == chosen == find(deep)
        with pytest.raises(OSError, match="No space left"):
            take(deep, "/tmp/another.sock", None, "/tmp")
        assert find(deep) == chosen
    finally:
        fault_points.arm(None)
        chosen.parent.rmdir()


def test_without_a_runtime_folder_the_temporary_one_serves(deep: Path, short: Path) -> None:
    """Also where XDG_RUNTIME_DIR names a folder that is not there."""
    chosen = take(deep, None, "/nowhere/at/all", str(short))
    chosen.parent.rmdir()
    assert chosen.parent.parent == short


def test_a_folder_others_may_enter_is_not_used(deep: Path, short: Path) -> None:
    """Somebody may have made it before us."""
    chosen = take(deep, None, str(short), "/tmp")
    chosen.parent.chmod(0o777)
    try:
        with pytest.raises(SettingsError, match="not a private folder"):
            take(deep, None, str(short), "/tmp")
    finally:
        chosen.parent.rmdir()


def test_a_configured_path_is_taken_and_found(tmp_path: Path) -> None:
    """popctl need not read the settings."""
    chosen = take(tmp_path / "state", "/run/pop/popd.sock", None, "/tmp")
    assert chosen == find(tmp_path / "state") == Path("/run/pop/popd.sock")


def test_a_configured_path_that_is_too_long_is_a_wrong_setting(tmp_path: Path) -> None:
    """The message names the key and what is allowed."""
    with pytest.raises(SettingsError, match=r"control\.socket.*106 bytes"):
        take(tmp_path, "/" + "x" * 110, None, "/tmp")
