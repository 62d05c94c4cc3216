"""Seeds that are turned down: each with its reason, its original bytes, and without harm to the daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance_world import GOOD, assert_still_serves, end_of, quick_workspace, run

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

MAX_BYTES = 20_000
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

NOT_JSON = {
    "empty": b"",
    "blank": b" \n ",
    "truncated": b'{"data": {"a": 1',
    "two-documents": b'{"data": {}} {"data": {}}',
    "deep": b'{"data": {"a": ' + b"[" * 70 + b"]" * 70 + b"}}",
    "very-deep": b'{"data": {"a": ' + b"[" * 9000 + b"]" * 9000 + b"}}",
    "latin-1": '{"data": {"a": "é"}}'.encode("latin-1"),
    "utf-16": '{"data": {}}'.encode("utf-16"),
    "duplicate-key": b'{"data": {}, "data": {"a": 1}}',
    "duplicate-deep-key": b'{"data": {"a": {"b": 1, "b": 1}}}',
    "nan": b'{"data": {"a": NaN}}',
    "infinity": b'{"data": {"a": -Infinity}}',
    "overflow": b'{"data": {"a": 1e999}}',
    "lone-surrogate": b'{"data": {"a": "\\ud800"}}',
    "lone-surrogate-key": b'{"data": {"\\udfff": 1}}',
    "single-quotes": b"{'data': {}}",
    "trailing-comma": b'{"data": {},}',
    "nul-bytes": b"\x00" * 100,
}

NOT_A_SEED: dict[str, Any] = {
    "list": [],
    "text": "data",
    "null": None,
    "no-data": {"name": "x"},
    "data-list": {"data": []},
    "data-null": {"data": None},
    "name-number": {"data": {}, "name": 7},
    "name-empty": {"data": {}, "name": ""},
    "pipeline-list": {"data": {}, "pipeline": [GOOD]},
    "priority-text": {"data": {}, "priority": "1"},
    "priority-fraction": {"data": {}, "priority": 1.5},
    "priority-bool": {"data": {}, "priority": True},
    "depends-text": {"data": {}, "dependsOn": "other"},
    "depends-no-id": {"data": {}, "dependsOn": ["../x"]},
    "conflicts-numbers": {"data": {}, "conflicts": [1]},
    "mode-unknown": {"data": {}, "mode": "production2"},
    "skip-object": {"data": {}, "skip": {}},
    "force-text": {"data": {}, "force": "yes"},
    "dry-run-number": {"data": {}, "dryRun": 1},
    "budget-negative": {"data": {}, "budgetUsd": -1},
    "budget-text": {"data": {}, "budgetUsd": "2"},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workspace = quick_workspace(tmp_path_factory.mktemp("rejected"))
    settings = "[http]\nport = 0\n[jobs]\nsettle_seconds = 0.05\n" + f"seed_max_bytes = {MAX_BYTES}\n"
    workspace.settings(settings)
    with Daemon(workspace) as daemon:
        yield daemon


@pytest.fixture
def workspace(daemon: Daemon) -> Workspace:
    return daemon.workspace


def rejected(daemon: Daemon, job_id: str, content: bytes, directory: str | None = None) -> dict[str, Any]:
    """Drop the bytes; the rejection they come to, checked for what every rejection has."""
    workspace, directory = daemon.workspace, directory or job_id
    workspace.drop(job_id, content)
    wait_until(lambda: workspace.rejection(directory), 10, f"the rejection of {directory}", daemon)
    rejection = workspace.rejection(directory)
    assert rejection is not None
    assert rejection.keys() == {"jobId", "reason", "message", "rejectedAt"}
    assert rejection["jobId"] == job_id
    assert TIMESTAMP.fullmatch(rejection["rejectedAt"])
    assert rejection["message"]
    place = workspace.data / "rejected" / directory
    assert (place / "seed.json").read_bytes() == content
    assert {entry.name for entry in place.iterdir()} == {"seed.json", "rejection.json"}
    assert not (workspace.data / "pending" / f"{job_id}-seed.json").exists()
    return rejection


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_strict_json_is_rejected_as_such(daemon: Daemon, name: str) -> None:
    """`invalid_json`, with the original bytes kept."""
    assert rejected(daemon, f"json-{name}", NOT_JSON[name])["reason"] == "invalid_json"


@pytest.mark.parametrize("name", NOT_A_SEED)
def test_wrong_types_and_values_are_rejected(daemon: Daemon, name: str) -> None:
    """`invalid_seed`, and the message names the key."""
    document = NOT_A_SEED[name]
    rejection = rejected(daemon, f"seed-{name}", json.dumps(document).encode())
    assert rejection["reason"] == "invalid_seed"
    if isinstance(document, dict):
        wrong = next((key for key in document if key != "data"), "data") if name != "no-data" else "data"
        assert wrong in rejection["message"]


def test_a_seed_over_the_limit_is_too_large_and_one_at_it_is_not(daemon: Daemon, workspace: Workspace) -> None:
    """The limit is in bytes; the whole seed is kept."""
    frame = b'{"data": {"a": "' + b"x" * MAX_BYTES
    at_limit = frame[: MAX_BYTES - 3] + b'"}}'
    assert rejected(daemon, "too-large", frame[: MAX_BYTES - 2] + b'"}}')["reason"] == "too_large"
    assert rejected(daemon, "huge", b"x" * 5_000_000)["reason"] == "too_large"
    workspace.drop("at-limit", at_limit)
    assert end_of(daemon, "at-limit") == "done"


def test_a_seed_that_waits_for_itself_is_rejected(daemon: Daemon) -> None:
    """It could never start."""
    content = json.dumps({"data": {}, "dependsOn": ["own-tail"]}).encode()
    assert rejected(daemon, "own-tail", content)["reason"] == "invalid_seed"


def test_an_unknown_pipeline_is_named(daemon: Daemon) -> None:
    """`unknown_pipeline`; the message says which there are."""
    rejection = rejected(daemon, "nowhere", b'{"data": {}, "pipeline": "no-such"}')
    assert rejection["reason"] == "unknown_pipeline"
    assert "no-such" in rejection["message"]
    assert GOOD in rejection["message"]


PIPELINES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "cycle": ({"tasks": [{"name": "a", "dependsOn": ["b"]}, {"name": "b", "dependsOn": ["a"]}]}, ("dependsOn",)),
    "own-cycle": ({"tasks": [{"name": "a", "dependsOn": ["a"]}]}, ("/tasks/0/dependsOn",)),
    "unknown-task": ({"tasks": ["a", "zz"]}, ("/tasks/1", "zz")),
    "duplicate-names": ({"tasks": ["a", "a"]}, ("/tasks/1", "a")),
    "no-tasks": ({"tasks": []}, ("/tasks",)),
    "tasks-missing": ({}, ("/tasks",)),
    "bad-name": ({"tasks": [{"name": "a/b", "task": "a"}]}, ("/tasks/0/name",)),
    "unknown-dependency": ({"tasks": ["a", {"name": "b", "dependsOn": ["c"]}]}, ("/tasks/1/dependsOn", "'c'")),
    "every-fault": (
        {
            "tasks": [
                {"name": "a", "config": 7, "timeout": -1},
                {"name": "b", "kind": "magic", "maxAttempts": 0},
                {"name": "b", "onRefinementExhausted": "perhaps"},
                {"name": "ghost"},
                {"name": "d", "task": "a", "gate": "maybe", "isolation": "house"},
                7,
            ]
        },
        (
            "/tasks/0/config: ", "/tasks/0/timeout", "/tasks/1/kind", "/tasks/1/maxAttempts", "/tasks/2/name",
            "/tasks/2/onRefinementExhausted", "/tasks/3/name", "/tasks/4/gate", "/tasks/4/isolation", "/tasks/5",
        ),
    ),
    "not-json": (b"{", ("pipeline.json",)),
    "not-object": ([], ("object",)),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_with_faults_never_runs_and_each_fault_is_listed(
    daemon: Daemon, workspace: Workspace, name: str
) -> None:
    """`invalid_pipeline`, with the path of everything that is wrong."""
    document, wanted = PIPELINES[name]
    slug = f"bad-{name}"
    workspace.add_pipeline(slug, {"a": NOOP_TASK, "b": NOOP_TASK})
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    if isinstance(document, dict):
        content = json.dumps({"name": slug, "version": "1", **document}).encode()
    (workspace.root / "pipeline-config" / slug / "pipeline.json").write_bytes(content)
    rejection = rejected(daemon, slug, json.dumps({"data": {}, "pipeline": slug}).encode())
    assert rejection["reason"] == "invalid_pipeline"
    for piece in wanted:
        assert piece in rejection["message"]


def test_a_task_registry_that_is_wrong_is_an_invalid_pipeline(daemon: Daemon, workspace: Workspace) -> None:
    """TASKS that is computed, missing, or names a file that is not there; and it is never executed."""
    trap = workspace.root / "executed"
    sources = {
        "computed": f"open({str(trap)!r}, 'w').close()\nTASKS = dict(a='a.py')\n",
        "missing": "OTHER = {}\n",
        "no-file": "TASKS = {'a': 'gone.py'}\n",
        "syntax": "TASKS = {\n",
        "outside": "TASKS = {'a': '../../../../../../etc/passwd.py'}\n",
    }
    for name, source in sources.items():
        slug = f"registry-{name}"
        workspace.add_pipeline(slug, {"a": NOOP_TASK})
        (workspace.root / "pipeline-config" / slug / "tasks" / "index.py").write_text(source, encoding="utf-8")
        rejection = rejected(daemon, slug, json.dumps({"data": {}, "pipeline": slug}).encode())
        assert rejection["reason"] == "invalid_pipeline", name
    assert not trap.exists()


def test_a_pipeline_that_was_corrected_runs(daemon: Daemon, workspace: Workspace) -> None:
    """What is wrong is looked at again for the next seed."""
    workspace.add_pipeline("mended", {"a": NOOP_TASK}, entries=["a", "zz"])
    seed = json.dumps({"data": {}, "pipeline": "mended"}).encode()
    assert rejected(daemon, "before-mending", seed)["reason"] == "invalid_pipeline"
    workspace.add_pipeline("mended", {"a": NOOP_TASK})
    assert run(daemon, "after-mending", "mended")["state"] == "done"


def test_an_id_that_is_taken_is_a_duplicate_job(daemon: Daemon, workspace: Workspace) -> None:
    """In complete/ or in current/: the first job is not touched."""
    first = run(daemon, "twice", GOOD)
    assert rejected(daemon, "twice", b'{"data": {"second": 1}}')["reason"] == "duplicate_job"
    assert workspace.status("twice") == first
    workspace.add_pipeline("fails", {"a": "def ingestion(ctx):\n    1 / 0\n"}, [{"name": "a", "maxAttempts": 1}])
    failed = run(daemon, "failed-once", "fails")
    assert rejected(daemon, "failed-once", b'{"data": {}}')["reason"] == "duplicate_job"
    assert workspace.status("failed-once") == failed


def test_a_second_rejection_of_an_id_gets_a_number(daemon: Daemon, workspace: Workspace) -> None:
    """Nothing is overwritten: `.2`, then `.3`."""
    rejected(daemon, "again", b"one")
    rejected(daemon, "again", b"two", "again.2")
    rejected(daemon, "again", b"three", "again.3")
    contents = [(workspace.data / "rejected" / name / "seed.json").read_bytes() for name in ("again", "again.2")]
    assert contents == [b"one", b"two"]


def test_rejections_do_no_harm(daemon: Daemon) -> None:
    """After all that, a good seed is a good job."""
    rejected(daemon, "last-bad-one", b"{")
    assert_still_serves(daemon, "rejections")
