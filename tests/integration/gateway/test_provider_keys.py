"""Several keys for one provider, as the provider on its socket sees them, and where they must never be seen."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from gateway_world import SECONDS, World, world

from pop_actors.core.observations import CallEnded
from pop_actors.errors import CallFailed
from pop_actors.system.gateway import probe

ONE, TWO, THREE = "sk-one-0123456789abcdef", "sk-two-0123456789abcdef", "sk-three-0123456789abcdef"
KEYS = {"FIRST_KEY": ONE, "SECOND_KEY": TWO, "/run/third": THREE}


def used(here: World) -> list[str]:
    """The keys of all requests, in the order of their arrival."""
    return [call.headers["authorization"].removeprefix("Bearer ") for call in here.server.calls]


@pytest.mark.parametrize("refusal", ["fail-401", "fail-402", "quota"])
def test_the_next_key_takes_over_within_the_same_call(tmp_path: Path, refusal: str) -> None:
    """The job hears nothing of it; afterwards the exhausted key is left alone."""
    with world(tmp_path, keys=KEYS) as here:
        here.server.keys[ONE] = refusal
        here.ask("ok", ordinal=1)
        here.ask("ok", ordinal=2)
        assert used(here) == [ONE, TWO, TWO]
        assert here.types() == ["sent", "paid"] * 2
        assert [ended.outcome for ended in here.of_kind(CallEnded)] == ["ok", "ok"]


def test_the_view_shows_how_every_key_stands(tmp_path: Path) -> None:
    """By the names of the places they came from: who stands down, why, and for how long; before any call, too."""
    with world(tmp_path, keys=KEYS) as here:
        before = next(row["keys"] for (provider, _), row in here.view().items() if provider == "fake")
        assert [(key["name"], key["standing"]) for key in before] == [(name, True) for name in KEYS]
        here.server.keys[ONE] = "quota"
        here.ask("ok")
        first, second, _ = here.view()["fake", "ok"]["keys"]
        assert second == {"name": "SECOND_KEY", "standing": True, "reason": None, "triedAgainIn": None}
        assert first["standing"] is False
        assert first["reason"].startswith("quota: HTTP 429")
        assert 0 < first["triedAgainIn"] <= 60


def test_calls_fail_for_good_with_every_reason_when_all_are_down(tmp_path: Path) -> None:
    """And no request is made for nothing after that."""
    with world(tmp_path, keys=KEYS) as here:
        here.server.keys |= {ONE: "fail-401", TWO: "quota", THREE: "fail-402"}
        for ordinal in (1, 2):
            with pytest.raises(CallFailed) as failed:
                here.ask("ok", ordinal=ordinal)
            assert failed.value.code in {"auth", "quota"}
            assert all(name in failed.value.message for name in KEYS)
            assert "HTTP 402" in failed.value.message
        assert used(here) == [ONE, TWO, THREE]


def test_a_spent_quota_of_one_model_leaves_the_key_to_the_others(tmp_path: Path) -> None:
    """Nobody else's work stops because one task asks for a model that is not to be had."""
    with world(tmp_path) as here:
        with pytest.raises(CallFailed):
            here.ask("quota")
        assert here.ask("ok", ordinal=2)["content"]


@pytest.mark.parametrize("refusal", ["fail-400", "fail-403", "fail-404"])
def test_what_is_about_the_request_says_nothing_of_the_key(tmp_path: Path, refusal: str) -> None:
    """A 403 too: it may be for what was asked."""
    with world(tmp_path, keys=KEYS) as here:
        for ordinal in (1, 2):
            with pytest.raises(CallFailed):
                here.ask(refusal, ordinal=ordinal)
        assert used(here) == [ONE, ONE]


def test_a_full_server_is_no_fault_of_the_key(tmp_path: Path) -> None:
    """It is waited for with the same one."""
    with world(tmp_path, keys=KEYS) as here:
        here.ask("fail-529-1")
        assert used(here) == [ONE, ONE]


def test_many_calls_at_once_go_over_together(tmp_path: Path) -> None:
    """Each costs one refused request at the most, and all are answered."""
    with world(tmp_path, keys=KEYS) as here:
        here.server.keys[ONE] = "slow-50ms+fail-401"
        asked = [here.begin("ok", ordinal=ordinal, text=str(ordinal)) for ordinal in range(20)]
        for ask in asked:
            ask.result(SECONDS)
        assert used(here).count(TWO) == 20
        assert used(here).count(ONE) <= 20
        assert used(here).count(THREE) == 0


def test_a_probe_tries_the_keys_again(tmp_path: Path) -> None:
    """Whoever has paid the bill need not wait."""
    with world(tmp_path, keys={"ONLY": ONE}) as here:
        here.server.keys[ONE] = "quota"
        with pytest.raises(CallFailed):
            here.ask("ok")
        here.server.keys.clear()
        asked = probe.probe(here.gateway._shop, "fake", "ok", SECONDS)
        assert here.loop.submit(asked).result(SECONDS)["ok"] is True
        assert here.ask("ok", ordinal=2)["content"]


def test_no_key_is_ever_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in errors, logs, reprs, the view, observations or files, whatever the provider repeats of it."""
    with caplog.at_level(logging.DEBUG), world(tmp_path, keys=KEYS) as here:
        here.server.keys |= {ONE: "fail-401", TWO: "quota", THREE: "fail-401"}
        with pytest.raises(CallFailed) as failed:
            here.ask("ok")
        with pytest.raises(CallFailed):
            here.ask("ok", ordinal=2)
        provider = here.gateway._desks.at("fake").provider()
        said = [str(failed.value), repr(failed.value.details), repr(here.gateway), repr(provider), repr(vars(provider))]
        said += [repr([vars(one) for one in provider._providers]), json.dumps(list(here.view().values())), caplog.text]
        said += [repr(here.seen), repr(here.settings)]
    said += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert [key for key in KEYS.values() for text in said if key in text] == []
