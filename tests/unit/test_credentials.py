"""Where keys come from, what is said of those that are missing, and what is never said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pop_actors import credentials
from pop_actors.config import ProviderSettings, load, take_keys_out_of
from pop_actors.core.api_keys import ProviderKeys
from pop_actors.errors import SettingsError


def read(tmp_path: Path, environ: dict[str, str], **table: object) -> ProviderKeys:
    settings = {"mine": ProviderSettings(**table)}  # type: ignore[arg-type]
    return credentials.read(settings, environ, tmp_path)["mine"]


def shown(found: ProviderKeys) -> list[tuple[str, str]]:
    return [(key.name, key.secret.get_secret_value()) for key in found.keys]


def test_several_are_used_in_the_order_they_are_named(tmp_path: Path) -> None:
    """Variables, then files (relative to the root); a key that comes twice is one."""
    (tmp_path / "third").write_text("sk-3\n")
    (tmp_path / "again").write_text("sk-1")
    environ = {"B": "sk-2", "A": " sk-1\n", "OTHER": "x"}
    found = read(tmp_path, environ, api_key_env=["A", "B"], api_key_file=["third", str(tmp_path / "again")])
    assert shown(found) == [("A", "sk-1"), ("B", "sk-2"), ("third", "sk-3")]
    assert found.missing == ()


def test_one_name_is_as_good_as_a_list(tmp_path: Path) -> None:
    """As it always was."""
    assert shown(read(tmp_path, {"A": "sk-1"}, api_key_env="A")) == [("A", "sk-1")]
    (tmp_path / "key").write_text("sk-2")
    assert shown(read(tmp_path, {}, api_key_file="key")) == [("key", "sk-2")]


def test_a_credential_of_the_service_manager_stands_in_for_a_variable(tmp_path: Path) -> None:
    """systemd's LoadCredential; a variable that is set goes before it."""
    (tmp_path / "A").write_text("sk-file\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert shown(read(tmp_path, environ, api_key_env=["A"])) == [("A", "sk-file")]
    assert shown(read(tmp_path, {**environ, "A": "sk-set"}, api_key_env=["A"])) == [("A", "sk-set")]


def test_what_is_missing_is_named_and_stops_nobody(tmp_path: Path) -> None:
    """Each place that was looked at, and why nothing was there; never what stood there instead."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "prose").write_text("this is no key")
    (tmp_path / "long").write_text("x" * 5000)
    os.mkfifo(tmp_path / "pipe")
    files = ["nowhere", "empty", "binary", "prose", ".", "long", "pipe"]
    found = read(tmp_path, {"B": "sk 2"}, api_key_env=["A", "B"], api_key_file=files)
    assert found.keys == ()
    assert len(found.missing) == 9
    for place, why in (("A", "not set"), ("B", "sign no key has"), ("nowhere", "No such file"), ("empty", "is empty")):
        assert any(said.startswith(place) and why in said for said in found.missing)
    assert not any("this is no key" in said or "sk 2" in said for said in found.missing)


def test_naming_none_means_none(tmp_path: Path) -> None:
    """`api_key_env = []`: the usual variable is not looked at, as for a CLI somebody is logged in to."""
    settings = {"claude-code": ProviderSettings(api_key_env=[])}
    found = credentials.read(settings, {"ANTHROPIC_API_KEY": "sk-1"}, tmp_path)
    assert found["claude-code"] == ProviderKeys()
    assert shown(found["anthropic"]) == [("ANTHROPIC_API_KEY", "sk-1")]


def test_every_variable_that_may_hold_a_key_is_taken_out(tmp_path: Path) -> None:
    """All of a list, and the usual ones."""
    (tmp_path / "pop.toml").write_text('[gateway.providers.mine]\nkind = "openai"\napi_key_env = ["A", "B"]\n')
    environ = {"A": "sk-1", "B": "sk-2", "OPENAI_API_KEY": "sk-3", "PATH": "/bin"}
    settings = load(tmp_path, None, environ)
    assert {"A", "B", "OPENAI_API_KEY"} <= set(take_keys_out_of(environ, settings))
    assert environ == {"PATH": "/bin"}
    assert "sk-" not in repr(settings) + repr(settings.keys) + str(settings.model_dump())


@pytest.mark.parametrize("line", ['api_key_env = "A"', "api_key_env = []", 'api_key_file = "a.key"'])
def test_a_usual_variable_nobody_reads_is_taken_out_too(tmp_path: Path, line: str) -> None:
    """A provider that has its key from another place leaves the usual one unread: a job's process must not find it."""
    (tmp_path / "pop.toml").write_text(f"[gateway.providers.openai]\n{line}\n")
    environ = {"OPENAI_API_KEY": "sk-3", "PATH": "/bin"}
    take_keys_out_of(environ, load(tmp_path, None, environ))
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "line",
    ['api_key_env = "sk-proj-very-secret"', 'api_key_env = ["A", "AIzaSyVERYsecret"]', 'api_key = "very-secret"',
     'api_key_file = ["x", 7]', 'api_keys = ["very-secret"]'],
)  # fmt: skip
def test_a_key_written_where_its_name_belongs_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    """The message ends up in logs."""
    (tmp_path / "pop.toml").write_text(f"[gateway.providers.openai]\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, None, {})
    assert "gateway.providers.openai.api_key" in str(caught.value)
    assert "secret" not in str(caught.value).lower()


def test_prices_are_by_provider_and_model(tmp_path: Path) -> None:
    """Dollars per million tokens; a name without a model is refused."""
    (tmp_path / "pop.toml").write_text('[gateway.prices."mine:big"]\ninput = 2\noutput = 8.5\ncached_input = 0.2\n')
    price = load(tmp_path, None, {}).gateway.prices["mine:big"]
    assert (price.input, price.output, price.cached_input, price.cache_write) == (2, 8.5, 0.2, None)
    (tmp_path / "pop.toml").write_text("[gateway.prices.big]\ninput = 2\noutput = 8\n")
    with pytest.raises(SettingsError, match="provider:model"):
        load(tmp_path, None, {})
