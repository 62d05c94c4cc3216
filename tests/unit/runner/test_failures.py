"""Every exception has the contract's reason, a text that can be sent, and a verdict whether to try again."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.errors import CallFailed
from pop_actors.runner.clockwork import StageTimeout
from pop_actors.runner.failures import backoff, described, failure_from, failure_of, flagged
from pop_actors.runner.json_values import FlagChanged, InvalidResult
from pop_actors.runner.task_modules import LoadFailed


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (ValueError("x"), "exception", False),
        (SystemExit(1), "exception", False),
        (KeyboardInterrupt(), "exception", False),
        (MemoryError(), "exception", False),
        (Mute(), "exception", False),
        (StageTimeout("x"), "timeout", False),
        (InvalidResult("x"), "invalid_result", True),
        (FlagChanged("x"), "flags", True),
        (LoadFailed("x"), "load", True),
        (CallFailed("rate_limited", "x"), "provider", False),
        (CallFailed("bad_reply", "x"), "provider", False),
        (CallFailed("auth", "x"), "provider", True),
        (CallFailed("no_key", "x"), "provider", True),
        (CallFailed("unknown_provider", "x"), "provider", True),
        (CallFailed("budget", "x"), "budget", True),
    ],
)
def test_an_exception_has_its_reason_and_verdict(error: BaseException, reason: str, final: bool) -> None:
    """Where another attempt would end the same way there is none; and every failure survives the checkpoint."""
    failure = failure_of(error, "inference")
    assert (failure.stage, failure.reason, failure.final) == ("inference", reason, final)
    assert failure_from(orjson.loads(orjson.dumps(failure.document())), "inference") == failure


def test_flags_fail_a_task_by_their_own_reasons() -> None:
    """A failed validation may come out better next time; refinement rounds were the second chances of quality."""
    assert not flagged("validateStructure", "validation", "no").final
    assert flagged("validateQuality", "quality", "no").final


def test_any_message_can_be_sent_and_is_bounded() -> None:
    """Half surrogate pairs and megabytes do not reach the wire."""
    info = described(ValueError("\ud800" + "x" * 1_000_000))
    assert len(info.message) < 5_000
    assert len(info.stack) < 20_000
    assert orjson.dumps(info.model_dump())


@given(st.integers(1, 10_000), st.just(0.0) | st.floats(0.001, 100), st.floats(0, 1, exclude_max=True))
def test_the_pause_doubles_up_to_half_a_minute(attempt: int, base: float, chance: float) -> None:
    """Never over 30 s, never less than half of what the doubling says."""
    full = min(30.0, base * 2.0 ** min(attempt - 1, 40))
    assert full / 2 <= backoff(attempt, base, chance) <= full
