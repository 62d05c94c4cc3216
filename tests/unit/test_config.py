"""Settings: file, environment, defaults; wrong ones are named; keys do not stay in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pop_actors.config import TABLES, load, take_keys_out_of
from pop_actors.core.provider_names import KINDS
from pop_actors.errors import SettingsError
from pop_actors.providers.catalogue import OFFLINE, VENDORS


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """The contract's numbers."""
    settings = load(tmp_path, None, {})
    assert (settings.jobs.max_running, settings.jobs.settle_seconds, settings.jobs.seed_max_bytes) == (4, 2, 1048576)
    assert (settings.tasks.max_attempts, settings.tasks.stage_timeout_seconds) == (3, 300)
    assert (settings.gateway.default_provider, settings.http.port, settings.logging.level) == ("offline", 4000, "info")
    assert settings.data_dir == tmp_path / "pipeline-data"
    assert settings.fault_point is None


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """pop.toml, then PO_TABLE__KEY; nested tables and lists can be written, too."""
    (tmp_path / "pop.toml").write_text("[jobs]\nmax_running = 2\nsettle_seconds = 1\n[http]\nport = 1\n")
    environ = {
        "PO_JOBS__MAX_RUNNING": "7",
        "PO_ROLLOUT__PILOT_PIPELINES": '["a", "b"]',
        "PO_GATEWAY__PROVIDERS__OPENAI__REQUESTS_PER_MINUTE": "60",
        "HOME": "/x",
    }
    settings = load(tmp_path, None, environ)
    assert (settings.jobs.max_running, settings.jobs.settle_seconds, settings.http.port) == (7, 1, 1)
    assert settings.rollout.pilot_pipelines == ("a", "b")
    assert settings.gateway.providers["openai"].requests_per_minute == 60


def test_the_short_names_are_kept(tmp_path: Path) -> None:
    """PO_ROOT, PO_DATA_DIR (relative to the root), PO_MAX_RUNNING_JOBS, PO_LOG_LEVEL."""
    environ = {"PO_ROOT": str(tmp_path), "PO_DATA_DIR": "d", "PO_MAX_RUNNING_JOBS": "9", "PO_LOG_LEVEL": "debug"}
    settings = load(None, None, environ)
    assert (settings.root, settings.data_dir) == (tmp_path, tmp_path / "d")
    assert (settings.jobs.max_running, settings.logging.level) == (9, "debug")


@pytest.mark.parametrize(
    ("toml", "environ", "named"),
    [
        ("[jobs]\nmax_running = 0\n", {}, ["jobs.max_running", "0", "greater than or equal to 1"]),
        ("[jobs]\nmax_runing = 3\n", {}, ["jobs.max_runing", "no such setting"]),
        ("[job]\nmax_running = 3\n", {}, ["[job]", "no such table", "jobs"]),
        ('[logging]\nlevel = "loud"\n', {}, ["logging.level", "'loud'", "'debug'"]),
        ("", {"PO_HTTP__PORT": "70000"}, ["PO_HTTP__PORT", "70000", "65535"]),
        ("", {"PO_ROLLOUT__MODE": "big-bang"}, ["PO_ROLLOUT__MODE", "big-bang", "shadow"]),
        ("[jobs\n", {}, ["pop.toml"]),
        ('[gateway.aliases]\nfast = "openai:m"\n', {}, ["gateway.aliases", "'fast'", "provider:model"]),
        ('[gateway.aliases]\n"a:b" = "a:b"\n', {}, ["gateway.aliases", "leads back"]),
        ("[gateway.pipeline_daily_budget_usd]\nnews = -1\n", {}, ["pipeline_daily_budget_usd.news", "-1"]),
        (
            '[gateway]\ndefault_provider = "opanai"\n',
            {},
            ["[gateway.default_provider]", "'opanai'", "openai, "],
        ),
        ("", {"PO_GATEWAY__DEFAULT_PROVIDER": "nobody"}, ["PO_GATEWAY__DEFAULT_PROVIDER", "'nobody'", "offline"]),
        ("[gateway.providers.opanai]\nrequests_per_minute = 3\n", {}, ["gateway.providers.opanai.kind", "claude-code"]),
        ('[gateway.providers.openai]\nbase_url = "localhost:8000/v1"\n', {}, ["openai.base_url", "'localhost", "http"]),
        ('[gateway.providers.gemini]\napi = "responses"\n', {}, ["gemini.api", "'responses'", "'chat'"]),
        ('[gateway]\non_budget = "ask"\n', {}, ["gateway.on_budget", "'fail'", "'wait'"]),
        ('[logging]\nredact = ["("]\n', {}, ["logging.redact", "'('", "regular expression"]),
    ],
)
def test_a_wrong_setting_names_key_value_and_what_is_allowed(
    tmp_path: Path, toml: str, environ: dict[str, str], named: list[str]
) -> None:
    """Whoever reads the message knows what to change, and where."""
    (tmp_path / "pop.toml").write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, None, environ)
    assert [part for part in named if part not in str(caught.value)] == []


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    """Whatever else is wrong with it."""
    (tmp_path / "pop.toml").write_text('[gateway.providers.openai]\nbase_url = "ftp://me:hunter2@there"\n')
    with pytest.raises(SettingsError, match="base_url") as caught:
        load(tmp_path, None, {})
    assert "hunter2" not in str(caught.value)


def test_the_providers_known_to_the_settings_are_those_there_are() -> None:
    """Each under its kind, without the settings loading the providers themselves."""
    assert {name: vendor.kind for name, vendor in VENDORS.items()} | {OFFLINE: OFFLINE} == KINDS


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    """--config with a typo is no silent default."""
    with pytest.raises(SettingsError, match=r"other\.toml"):
        load(tmp_path, tmp_path / "other.toml", {})


def test_keys_come_from_environment_or_credentials_and_are_taken_out(tmp_path: Path) -> None:
    """A provider's own variable counts, too; afterwards no key is left in the environment, nor shown in a repr."""
    (tmp_path / "pop.toml").write_text('[gateway.providers.mine]\nkind = "openai"\napi_key_env = "MY_KEY"\n')
    (tmp_path / "GEMINI_API_KEY").write_text("from-file\n")
    environ = {"OPENAI_API_KEY": "sk-1", "MY_KEY": "sk-2", "CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": "/bin"}
    settings = load(tmp_path, None, environ)
    keys = {name: key.secret.get_secret_value() for name, found in settings.keys.items() for key in found.keys}
    assert keys == {"openai": "sk-1", "mine": "sk-2", "gemini": "from-file"}
    take_keys_out_of(environ, settings)
    assert environ == {"PATH": "/bin"}
    assert "sk-" not in repr(settings)
    assert "keys" not in settings.model_dump()


def test_the_fault_point_is_no_table(tmp_path: Path) -> None:
    """PO_FAULT_POINT is read beside the tables; pop.toml cannot set it."""
    assert load(tmp_path, None, {"PO_FAULT_POINT": "claim.linked:2"}).fault_point == "claim.linked:2"
    assert "fault_point" not in TABLES
    (tmp_path / "pop.toml").write_text('fault_point = "claim.linked"\n')
    with pytest.raises(SettingsError, match="no such table"):
        load(tmp_path, None, {})


def test_the_headers_of_a_provider_are_secrets(tmp_path: Path) -> None:
    """They may carry a key: no repr and no complaint shows a value."""
    table = '[gateway.providers.mine]\nkind = "openai"\nheaders = {{ "x-key" = "{}" }}\n'
    (tmp_path / "pop.toml").write_text(table.format("very-secret"))
    settings = load(tmp_path, None, {})
    assert settings.gateway.providers["mine"].headers["x-key"].get_secret_value() == "very-secret"
    assert "very-secret" not in repr(settings)
    (tmp_path / "pop.toml").write_text(table.format("very-secret\\n"))
    with pytest.raises(SettingsError, match="x-key") as refused:
        load(tmp_path, None, {})
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["PO_TELEMETRY__HEADERS", "PO_GATEWAY__PROVIDERS__MINE__HEADERS"])
def test_headers_of_a_wrong_shape_are_not_shown_either(tmp_path: Path, name: str) -> None:
    """Who writes them as one text has written a key there all the same."""
    with pytest.raises(SettingsError, match="headers") as refused:
        load(tmp_path, None, {name: "x-key=very-secret"})
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["collector:4318", "http://user:very-secret@collector", "ftp://collector", ""])
def test_a_collector_has_an_http_address_without_a_password(tmp_path: Path, endpoint: str) -> None:
    """Keys go into headers, which are never shown."""
    with pytest.raises(SettingsError, match="otlp_endpoint") as refused:
        load(tmp_path, None, {"PO_TELEMETRY__OTLP_ENDPOINT": endpoint})
    assert "very-secret" not in str(refused.value)


def test_variables_of_headers_are_removed_as_those_of_keys_are(tmp_path: Path) -> None:
    """Processes started later see neither."""
    environ = {
        "PO_TELEMETRY__HEADERS__X-API-KEY": "one",
        "PO_GATEWAY__PROVIDERS__OPENAI__HEADERS": '{ x-key = "two" }',
        "PO_HTTP__PORT": "0",
        "HEADERS": "somebody else's",
    }
    settings = load(tmp_path, None, environ)
    take_keys_out_of(environ, settings)
    assert sorted(environ) == ["HEADERS", "PO_HTTP__PORT"]
