"""What popctl makes of values and words, without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.cli.app import with_json_first
from pop_actors.cli.commands.service import tree_lines
from pop_actors.cli.daemon import StreamEvent, parse_events
from pop_actors.cli.drop import attach, check, drop, prepare, slug
from pop_actors.cli.failure import CommandFailed
from pop_actors.cli.report import report_of
from pop_actors.cli.waiting import Awaited
from pop_actors.cli.wording import ago, duration, one_line, safe
from pop_actors.core.ids import is_job_id
from pop_actors.storage.layout import Workspace

MAX_BYTES = 1000


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, tmp_path / "pipeline-data")
    for folder in (*made.folders, made.config):
        folder.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (42, "42 s"), (185, "3 m 05 s"), (7800, "2 h 10 m"), (356400, "4 d 3 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    """Two units at most, the larger first."""
    assert duration(seconds) == text


def test_moments_are_told_as_ages() -> None:
    """A stamp in the past is `… ago`, one of this second `now`, none a dash."""
    assert ago("2026-01-02T03:04:05.000Z", 1767323047.0) == "2 s ago"
    assert ago("2026-01-02T03:04:05.000Z", 1767323045.5) == "now"
    assert ago(None, 0.0) == "-"


@given(st.text())
def test_text_from_elsewhere_cannot_steer_a_terminal(text: str) -> None:
    """No escape, no control character, and a cell is one line."""
    assert "\x1b" not in safe(text)
    assert not any(character in one_line(text) for character in "\x1b\x9b\r\n\t\x00")


@given(st.text(max_size=300))
def test_every_name_gives_a_job_id(name: str) -> None:
    """Whatever a seed is called, its default id is a legal one."""
    assert is_job_id(f"{slug(name)}-abc123")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list"], (False, ["list"])),
        (["list", "--json"], (True, ["--json", "list"])),
        (["--json", "status", "j"], (True, ["--json", "status", "j"])),
        (["status", "--", "--json"], (False, ["status", "--", "--json"])),
    ],
)
def test_json_may_stand_anywhere(words: list[str], expected: tuple[bool, list[str]]) -> None:
    """It is found before and after the command, but not behind `--`."""
    assert with_json_first(words) == expected


def test_events_are_read_from_a_stream() -> None:
    """Fields may come in any order; retry lines and comments are passed over."""
    lines = [
        "retry: 1000",
        "",
        ": note",
        "event: heartbeat",
        'data: {"a": 1}',
        "",
        "id: 7",
        "event: job:created",
        "data: 2",
        "",
    ]
    assert list(parse_events(iter(lines))) == [
        StreamEvent(None, "heartbeat", {"a": 1}),
        StreamEvent("7", "job:created", 2),
    ]


def test_the_tree_is_drawn_with_its_branches() -> None:
    """Children hang below their parent; the last one closes the branch."""
    leaf = {"kind": "thread", "state": "running", "pid": None, "restarts": 0, "mailbox": 0, "uptime": 5.0}
    inner = {**leaf, "name": "jobs", "children": [{**leaf, "name": "jobs/a", "pid": 12}]}
    lines = tree_lines({**leaf, "name": "root", "children": [inner, {**leaf, "name": "api"}]})
    assert [line.partition("  (")[0] for line in lines] == ["root", "├─ jobs", "│  └─ jobs/a", "└─ api"]
    assert "pid 12" in lines[2]


def test_a_report_adds_up_tokens_and_cost_per_task() -> None:
    """Calls without a known price are counted and cost nothing."""
    usage = [["openai:a", 10, 5, 0.25], ["openai:b", 1, 1, None]]
    task = {
        "state": "done",
        "attempts": 2,
        "executionTime": 12.5,
        "tokenUsage": usage,
        "startedAt": "a",
        "endedAt": "b",
    }
    found = report_of(
        {
            "id": "j",
            "pipelineId": "pl",
            "pipeline": "p",
            "state": "done",
            "costUsd": 0.25,
            "tokens": {"input": 11, "output": 6},
            "tasks": {"one": task, "two": {"state": "pending"}},
        }
    )
    assert found["tasks"][0]["tokens"] == {"input": 11, "output": 6}
    assert (found["tasks"][0]["costUsd"], found["tasks"][0]["models"]) == (0.25, ["openai:a", "openai:b"])
    assert (found["total"]["calls"], found["total"]["attempts"], found["unpricedCalls"]) == (2, 2, 1)


def test_a_default_id_is_the_seeds_name_and_six_random_characters() -> None:
    """Two submits of one seed are two jobs."""
    ids = {
        check(b'{"name": "Market Analysis!", "data": {}}', "x.json", None, None, MAX_BYTES).job_id for _ in range(20)
    }
    assert len(ids) == 20
    assert all(one.startswith("market-analysis-") and len(one) == len("market-analysis-") + 6 for one in ids)


def test_a_pipeline_given_by_hand_replaces_the_seeds() -> None:
    """Everything else of the seed stays as it is, unknown keys too."""
    content = b'\xef\xbb\xbf{"pipeline": "a", "data": {"n": 123456789012345678901234567890}, "mine": "\xc3\xa9"}'
    checked = check(content, "x.json", "id", "b", MAX_BYTES)
    data = {"n": 123456789012345678901234567890}
    assert json.loads(checked.content) == {"pipeline": "b", "data": data, "mine": "é"}


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{", "invalid_json"), (b"[]", "invalid_seed"), (b'{"data": 1}', "invalid_seed"), (b" " * 1001, "too_large")],
)
def test_a_seed_popd_would_reject_is_not_dropped(content: bytes, code: str) -> None:
    """The contract's reason is the code."""
    with pytest.raises(CommandFailed) as failed:
        check(content, "x.json", "id", None, MAX_BYTES)
    assert failed.value.code == code


def test_dropping_never_overwrites(workspace: Workspace) -> None:
    """The seed that is there stays, and nothing half-made is left."""
    seed = check(b'{"data": {}}', "x.json", "mine", None, MAX_BYTES)
    drop(workspace, seed)
    with pytest.raises(CommandFailed) as failed:
        drop(workspace, check(b'{"data": {"b": 1}}', "x.json", "mine", None, MAX_BYTES))
    assert failed.value.code == "duplicate_job"
    assert [path.name for path in workspace.pending.iterdir()] == ["mine-seed.json"]
    assert workspace.seed("mine").read_bytes() == b'{"data": {}}'


def test_attaching_is_all_or_nothing(workspace: Workspace, tmp_path: Path) -> None:
    """When one file cannot be had, none is left in staging."""
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CommandFailed, match=r"missing\.txt"):
        attach(workspace, "mine", [tmp_path / "a.txt", tmp_path / "missing.txt"])
    assert list((workspace.staging / "mine").iterdir()) == []


def test_there_must_be_a_workspace(tmp_path: Path) -> None:
    """A wrong --root is told, not filled with folders."""
    with pytest.raises(CommandFailed, match="popctl init"):
        prepare(Workspace(tmp_path / "nowhere", tmp_path / "nowhere" / "pipeline-data"))
    assert not (tmp_path / "nowhere").exists()


def test_the_id_of_a_job_is_not_used_again(workspace: Workspace) -> None:
    """popd would reject the seed; popctl says so first."""
    workspace.finished("mine").path.mkdir()
    with pytest.raises(CommandFailed, match="another id") as failed:
        drop(workspace, check(b'{"data": {}}', "x.json", "mine", None, MAX_BYTES))
    assert failed.value.code == "duplicate_job"
    assert list(workspace.pending.iterdir()) == []


def write_status(folder: Path, **document: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    status = {"current": None, "currentStage": None, "progress": 0, "costUsd": 0, "error": None, **document}
    (folder / "tasks-status.json").write_text(json.dumps(status))


def test_a_job_is_followed_from_pending_to_complete(workspace: Workspace) -> None:
    """Between two places it is where it was last; `done` counts once it lies in complete/."""
    awaited = Awaited(workspace, "mine")
    assert awaited.look().state == "pending"
    write_status(workspace.job("mine").path, state="running")
    assert awaited.look().state == "running"
    write_status(workspace.job("mine").path, state="done")
    assert not awaited.look().ended
    workspace.job("mine").path.rename(workspace.finished("mine").path)
    assert awaited.look().went_well


@pytest.mark.parametrize("state", ["error", "stopped"])
def test_a_job_that_fails_or_is_stopped_has_ended(workspace: Workspace, state: str) -> None:
    """Both are ends, and neither went well."""
    awaited = Awaited(workspace, "mine")
    write_status(workspace.job("mine").path, state=state, error={"reason": "exception", "message": "boom"})
    seen = awaited.look()
    assert (seen.ended, seen.went_well) == (True, False)
    assert "boom" in seen.line


def test_an_older_rejection_of_that_id_is_not_mistaken_for_this_one(workspace: Workspace) -> None:
    """A seed ends when its own rejection appears, beside the older one."""
    (workspace.rejected / "mine").mkdir()
    (workspace.rejected / "mine" / "rejection.json").write_text('{"reason": "old", "message": "old"}')
    awaited = Awaited(workspace, "mine")
    assert awaited.look().state == "pending"
    (workspace.rejected / "mine.2").mkdir()
    (workspace.rejected / "mine.2" / "rejection.json").write_text('{"reason": "invalid_pipeline", "message": "faulty"}')
    assert awaited.look().line == "mine: rejected: invalid_pipeline: faulty"
