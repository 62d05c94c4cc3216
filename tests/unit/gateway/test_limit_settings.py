"""Limits as they stand in the settings: of a provider, and of one of its models."""

from __future__ import annotations

from pathlib import Path

import pytest

from pop_actors.config import load
from pop_actors.core.limits import KINDS_OF_LIMIT, Limits
from pop_actors.errors import SettingsError
from pop_actors.system.gateway.desk import limits_in


def test_every_kind_of_limit_may_be_set_for_a_provider_and_for_a_model(tmp_path: Path) -> None:
    """In a table of its own under the provider's; what is left out is unlimited."""
    lines = [f"{kind} = {number}" for number, kind in enumerate(KINDS_OF_LIMIT, start=1)]
    toml = ["[gateway.providers.openai]", *lines, '[gateway.providers.openai.models."gpt-5.1"]', "max_concurrency = 9"]
    (tmp_path / "pop.toml").write_text("\n".join(toml))
    table = load(tmp_path, None, {}).gateway.providers["openai"]
    assert [getattr(limits_in(table), kind) for kind in KINDS_OF_LIMIT] == [1, 2, 3, 4, 5, 6]
    assert limits_in(table.models["gpt-5.1"]) == Limits(max_concurrency=9)


@pytest.mark.parametrize(("name", "value"), [("requests_per_day", "0"), ("max_concurency", "2"), ("base_url", "'x'")])
def test_a_wrong_limit_of_a_model_is_named(tmp_path: Path, name: str, value: str) -> None:
    """With its whole path."""
    (tmp_path / "pop.toml").write_text(f"[gateway.providers.openai.models.m]\n{name} = {value}\n")
    with pytest.raises(SettingsError, match=f"gateway.providers.openai.models.m.{name}"):
        load(tmp_path, None, {})
