"""Seeds: what the contract allows, what it refuses, and that a refusal names the key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.seed import parse_seed
from pop_actors.errors import SeedRejected

LIMIT = 1_048_576


def parsed(document: Any) -> Any:
    return parse_seed(json.dumps(document).encode(), "job-1", LIMIT)


def refused(document: Any) -> SeedRejected:
    with pytest.raises(SeedRejected) as caught:
        parsed(document)
    return caught.value


def test_only_data_is_required() -> None:
    """A seed of data alone gets the job's id for a name and defaults for the rest."""
    seed = parsed({"data": {}})
    assert (seed.name, seed.pipeline, seed.priority, seed.mode) == ("job-1", None, 0, None)
    assert (seed.depends_on, seed.conflicts, seed.skip) == ([], [], [])
    assert (seed.force, seed.dry_run, seed.budget_usd) == (False, False, None)


def test_every_key_of_the_contract_is_read() -> None:
    """The contract's own example comes through key by key."""
    seed = parsed(
        {
            "name": "market-analysis", "pipeline": "market-analysis", "data": {"any": "object"}, "priority": -3,
            "dependsOn": ["other-job"], "conflicts": ["repo:site"], "mode": "shadow", "skip": ["diagrams"],
            "force": True, "dryRun": True, "budgetUsd": 2,
        }
    )  # fmt: skip
    assert (seed.name, seed.pipeline, seed.data, seed.priority) == (
        "market-analysis",
        "market-analysis",
        {"any": "object"},
        -3,
    )
    assert (seed.depends_on, seed.conflicts, seed.skip) == (["other-job"], ["repo:site"], ["diagrams"])
    assert (seed.mode, seed.force, seed.dry_run, seed.budget_usd) == ("shadow", True, True, 2.0)


def test_unknown_keys_reach_the_tasks() -> None:
    """`raw` is the whole object as it was parsed, unknown keys and all; snake case names are such keys."""
    document = {"data": {"x": [1]}, "owner": {"team": "a"}, "depends_on": 7}
    assert parsed(document).raw == document


WRONG = [
    ("data", []), ("data", None), ("data", "x"), ("name", 5), ("name", ""), ("name", None), ("pipeline", 3),
    ("pipeline", ""), ("pipeline", None), ("priority", "1"), ("priority", True), ("priority", 1.5), ("priority", 2**60),
    ("dependsOn", "other"), ("dependsOn", [1]), ("dependsOn", ["a/b"]), ("dependsOn", ["job-1"]), ("conflicts", [""]),
    ("conflicts", {}), ("mode", "fast"), ("mode", None), ("skip", [None]), ("force", 1), ("force", "true"),
    ("dryRun", 0), ("budgetUsd", -0.01), ("budgetUsd", "2"), ("budgetUsd", True), ("budgetUsd", 10**400),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(key: str, value: Any) -> None:
    """The message can be acted on without the documentation."""
    rejection = refused({"data": {}, key: value})
    assert rejection.reason == "invalid_seed"
    assert rejection.message.startswith(key)
    assert "must be" in rejection.message


def test_all_faults_are_told_at_once() -> None:
    """Nobody has to submit a seed five times to learn five faults."""
    message = refused({"priority": "1", "mode": "x", "skip": 3}).message
    assert [part.split(":")[0] for part in message.split("; ")] == ["data", "priority", "mode", "skip"]


@pytest.mark.parametrize("content", [b"[]", b"3", b'"x"', b"null", b"true"])
def test_a_seed_is_an_object(content: bytes) -> None:
    """Valid JSON of another kind is a wrong seed, not wrong JSON."""
    with pytest.raises(SeedRejected) as caught:
        parse_seed(content, "job-1", LIMIT)
    assert caught.value.reason == "invalid_seed"


def test_bytes_beyond_the_limit_are_too_large_whatever_they_say() -> None:
    """The limit comes first: what is too large is not parsed."""
    content = b'{"data": {}}'
    assert parse_seed(content, "job-1", len(content)).data == {}
    with pytest.raises(SeedRejected) as caught:
        parse_seed(content, "job-1", len(content) - 1)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("content", [b'{"data": {}, "data": {}}', b'{"data": {"x": NaN}}', b"\xff", b'{"data": {'])
def test_what_is_not_strict_json_is_invalid_json(content: bytes) -> None:
    """Each of the contract's kinds has its own reason."""
    with pytest.raises(SeedRejected) as caught:
        parse_seed(content, "job-1", LIMIT)
    assert caught.value.reason == "invalid_json"
    assert "line 1" in caught.value.message


keys = st.sampled_from(
    ["name", "data", "pipeline", "priority", "dependsOn", "mode", "skip", "force", "budgetUsd", "zzz"]
)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(keys, values | st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3)))
def test_any_object_is_a_seed_or_is_refused(document: dict[str, Any]) -> None:
    """No value in any place brings out another error; an accepted seed keeps its types."""
    try:
        seed = parsed(document)
    except SeedRejected as rejection:
        outcome = rejection.reason
    else:
        outcome = "accepted" if type(seed.priority) is int and seed.raw == document else "bent"
    assert outcome in {"accepted", "invalid_seed"}
