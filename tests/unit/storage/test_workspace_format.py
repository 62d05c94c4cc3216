"""A workspace is brought up step by step, a kill repeats at most one step, and what is not ours is refused."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pop_actors.errors import FormatRefused, RootTaken
from pop_actors.storage import workspace_format
from pop_actors.storage.layout import Workspace
from pop_actors.storage.workspace_lock import WorkspaceLock, is_owned

Step = Callable[[Workspace], None]


class Killed(Exception):
    """Stands for a kill in the middle of a step."""


def steps(done: list[int], killed_in: int | None = None) -> dict[int, Step]:
    def step(number: int) -> Step:
        def do(_: Workspace) -> None:
            done.append(number)
            if number == killed_in:
                raise Killed

        return do

    return {number: step(number) for number in (1, 2, 3)}


def marker(workspace: Workspace) -> int:
    number: int = json.loads(workspace.marker.read_bytes())["format"]
    return number


def test_each_step_is_done_once_and_marked(workspace: Workspace) -> None:
    """From no marker at all, which is the first format."""
    done: list[int] = []
    workspace_format.bring_up(workspace, steps(done), 4)
    assert (done, marker(workspace)) == ([1, 2, 3], 4)
    workspace_format.bring_up(workspace, steps(done), 4)
    assert done == [1, 2, 3]


def test_a_kill_repeats_the_step_it_came_in(workspace: Workspace) -> None:
    """And none before it."""
    done: list[int] = []
    with pytest.raises(Killed):
        workspace_format.bring_up(workspace, steps(done, killed_in=2), 4)
    assert marker(workspace) == 2
    workspace_format.bring_up(workspace, steps(done), 4)
    assert (done, marker(workspace)) == ([1, 2, 2, 3], 4)


def test_newer_and_too_old_are_refused_and_untouched(workspace: Workspace) -> None:
    """The message says which format there is, which are known, and what to start."""
    workspace.marker.write_text('{"format": 9, "writtenBy": "7.0"}')
    with pytest.raises(FormatRefused, match=r"format 9, written by popd 7\.0.*up to 4"):
        workspace_format.bring_up(workspace, steps([]), 4)
    assert marker(workspace) == 9
    workspace.marker.write_text('{"format": 1}')
    with pytest.raises(FormatRefused, match="from 2: start a version in between"):
        workspace_format.bring_up(workspace, {2: lambda _: None, 3: lambda _: None}, 4)
    assert marker(workspace) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40, b"[]", b'{"format": "2"}', b'{"format": true}', b'{"format": -1}']
)
def test_a_marker_that_says_nothing_is_kept_and_written_anew(workspace: Workspace, content: bytes) -> None:
    """Every step may be done again, so all of them are."""
    workspace.marker.write_bytes(content)
    done: list[int] = []
    workspace_format.bring_up(workspace, steps(done), 4)
    assert (done, marker(workspace)) == ([1, 2, 3], 4)
    assert workspace.marker.with_name("workspace.json.damaged-1").read_bytes() == content


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """Neither the check nor the question who owns it."""
    workspace = Workspace(tmp_path, tmp_path / "pipeline-data")
    assert workspace_format.check(workspace) == workspace_format.OLDEST
    assert not is_owned(workspace)
    assert os.listdir(tmp_path) == []


def test_the_lock_has_one_owner_and_asking_is_no_owning(workspace: Workspace) -> None:
    """Its text may be anything; another thread's descriptor counts as another process's."""
    workspace.lock.write_bytes(b"\xff\xfe garbage")
    with WorkspaceLock(workspace):
        assert is_owned(workspace)
        refused: list[RootTaken] = []

        def take() -> None:
            try:
                with WorkspaceLock(workspace):
                    pass
            except RootTaken as error:
                refused.append(error)

        thread = threading.Thread(target=take)
        thread.start()
        thread.join(10)
        assert str(os.getpid()) in str(refused[0])
    assert not is_owned(workspace)
    with WorkspaceLock(workspace):
        pass
