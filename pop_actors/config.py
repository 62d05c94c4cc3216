"""Settings: pop.toml, the environment (which wins), and the short names of old. The only reader of the environment.

Read once at start into frozen values; each part is handed its own table. Provider keys are read here and removed from
the environment, so that no process started later inherits them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from pop_actors.errors import SettingsError
from pop_actors.storage.layout import Workspace

PROVIDER_KEYS = {
    "openai": "OPENAI_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "moonshot": "MOONSHOT_API_KEY",
    "zhipu": "ZHIPU_API_KEY",
}
SHORT_NAMES = {"PO_MAX_RUNNING_JOBS": ("jobs", "max_running"), "PO_LOG_LEVEL": ("logging", "level")}

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobsSettings(_Table):
    max_running: AtLeastOne = 4
    settle_seconds: NotNegative = 2.0
    shutdown_grace_seconds: NotNegative = 30.0
    max_restarts: Count = 3
    restart_period_seconds: Positive = 60.0
    seed_max_bytes: AtLeastOne = 1048576
    disk_reserve_mb: Count | None = None
    """Less than this free, and no job begins, so that those that run can go on. None: 16, at most 1 % of the disk."""
    heartbeat_deadline_seconds: Annotated[float, Field(ge=3)] = 30.0
    """A job's process that has not been heard of for so long is hung; it beats every two seconds."""
    memory_limit_mb: AtLeastOne | None = None
    disk_limit_mb: AtLeastOne | None = None
    processes_limit: AtLeastOne | None = None
    open_files_limit: Annotated[int, Field(ge=64)] = 1024
    """Per job: what all its processes hold, what its directory takes, how many they are, what each may have open."""
    on_code_change: Literal["continue", "restart_task", "wait"] = "continue"
    """What a run does that is taken up again after its code was edited."""


class TasksSettings(_Table):
    max_attempts: AtLeastOne = 3
    max_refinements: Count = 2
    stage_timeout_seconds: Positive = 300.0
    retry_backoff_seconds: NotNegative = 2.0


class ProviderSettings(_Table):
    """One `[gateway.providers.NAME]`; what is left out comes from the catalogue of providers."""

    kind: Literal["openai", "anthropic", "gemini", "claude-code", "offline"] | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    requests_per_minute: AtLeastOne | None = None
    tokens_per_minute: AtLeastOne | None = None
    max_concurrency: AtLeastOne | None = None


class GatewaySettings(_Table):
    default_provider: str = "offline"
    default_model: str | None = None
    request_timeout_seconds: Positive = 600.0
    idle_timeout_seconds: Positive = 60.0
    max_retries: Count = 3
    max_waiting_per_job: AtLeastOne = 1000
    max_waiting: AtLeastOne = 10000
    daily_budget_usd: NotNegative | None = None
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)


class WorkflowSettings(_Table):
    orchestration: Literal["parallel", "sequential"] = "parallel"
    scheduler: str | None = None
    agents: dict[str, Any] = Field(default_factory=dict)


class RolloutSettings(_Table):
    mode: Literal["production", "pilot", "shadow"] = "production"
    pilot_pipelines: tuple[str, ...] = ()
    pilot_percent: Annotated[float, Field(ge=0, le=100)] = 0.0


class HttpSettings(_Table):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 4000
    allow_mutations: bool = False


class ControlSettings(_Table):
    socket: str | None = None


class ExecutorSettings(_Table):
    kind: Literal["local"] = "local"


class LoggingSettings(_Table):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Surroundings(_Table):
    """What the service manager and the session handed over in the environment."""

    notify_socket: str | None = None
    journal_stream: str | None = None
    runtime_dir: str | None = None
    watchdog_seconds: float | None = None
    """How often the watchdog is to be fed; None: it is not wanted."""


class Settings(_Table):
    """All tables of pop.toml, plus where the workspace is and the keys of the providers.

    `fault_point` (PO_FAULT_POINT) is for tests: what the process does to itself, or to its disk (`fault_points.arm`).
    """

    root: Path
    data_dir: Path
    keys: dict[str, SecretStr] = Field(default_factory=dict, repr=False, exclude=True)
    fault_point: str | None = None
    surroundings: Surroundings = Surroundings()
    jobs: JobsSettings = JobsSettings()
    tasks: TasksSettings = TasksSettings()
    gateway: GatewaySettings = GatewaySettings()
    workflow: WorkflowSettings = WorkflowSettings()
    rollout: RolloutSettings = RolloutSettings()
    http: HttpSettings = HttpSettings()
    control: ControlSettings = ControlSettings()
    executor: ExecutorSettings = ExecutorSettings()
    logging: LoggingSettings = LoggingSettings()

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root, self.data_dir)


TABLES = tuple(
    name for name in Settings.model_fields if name not in {"root", "data_dir", "keys", "fault_point", "surroundings"}
)


def load(root: Path | None, config_file: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the file, the environment and the defaults. SettingsError names key, value and what is allowed."""
    root = (root or Path(environ.get("PO_ROOT") or ".")).absolute()
    data_dir = Path(environ.get("PO_DATA_DIR") or root / "pipeline-data")
    document = _read_file(config_file or root / "pop.toml", must_exist=config_file is not None)
    sources = dict.fromkeys(document, "pop.toml")
    _overlay_environment(document, sources, environ)
    unknown = sorted(document.keys() - set(TABLES))
    if unknown:
        raise SettingsError(f"{_where(sources, unknown[0])}: no such table; there are: {', '.join(TABLES)}")
    try:
        settings = Settings.model_validate(
            {
                **document,
                "root": root,
                "data_dir": root / data_dir,
                "keys": _keys(document, environ),
                "fault_point": environ.get("PO_FAULT_POINT") or None,
                "surroundings": _surroundings(environ),
            }
        )
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault, sources) for fault in error.errors())) from None
    return settings


def _surroundings(environ: Mapping[str, str]) -> Surroundings:
    watchdog = environ.get("WATCHDOG_USEC", "")
    return Surroundings(
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        journal_stream=environ.get("JOURNAL_STREAM") or None,
        runtime_dir=environ.get("XDG_RUNTIME_DIR") or None,
        watchdog_seconds=int(watchdog) / 1e6 / 3 if watchdog.isdecimal() and int(watchdog) else None,
    )


def take_keys_out_of(environ: dict[str, str] | os._Environ[str], settings: Settings) -> list[str]:
    """Remove every provider key's variable, so that no process started from here on has it; their names."""
    names = list(_key_variables(settings.gateway.model_dump()).values())
    for name in names:
        environ.pop(name, None)
    return names


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"{path}: no such file") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _overlay_environment(document: dict[str, Any], sources: dict[str, str], environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        if name in SHORT_NAMES:
            path: tuple[str, ...] = SHORT_NAMES[name]
        elif name.startswith("PO_") and "__" in name:
            path = tuple(part.lower() for part in name.removeprefix("PO_").split("__"))
        else:
            continue
        *tables, key = path
        place = document
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{name}: {table} is not a table")
        place[key] = _toml_value(value)
        sources[".".join(path)] = name


def _toml_value(text: str) -> Any:
    """A list or table where the text is written as one in TOML; else the text, for pydantic to turn into what it is."""
    if text[:1] in {"[", "{"}:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _keys(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, SecretStr]:
    gateway = document.get("gateway")
    found: dict[str, SecretStr] = {}
    for provider, variable in _key_variables(gateway if isinstance(gateway, dict) else {}).items():
        value = environ.get(variable) or _credential(variable, environ)
        if value:
            found[provider] = SecretStr(value)
    return found


def _key_variables(gateway: Mapping[str, Any]) -> dict[str, str]:
    variables = dict(PROVIDER_KEYS)
    providers = gateway.get("providers")
    for name, table in (providers if isinstance(providers, dict) else {}).items():
        if isinstance(table, dict) and table.get("api_key_env"):
            variables[name] = str(table["api_key_env"])
    return variables


def _credential(name: str, environ: Mapping[str, str]) -> str | None:
    """A systemd credential of that name, where the service manager handed one over."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _where(sources: Mapping[str, str], key: str) -> str:
    source = sources.get(key) or sources.get(key.partition(".")[0]) or "pop.toml"
    return f"{source}: [{key}]" if source == "pop.toml" else source


def _explain(fault: Any, sources: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{_where(sources, key)}: {key}: no such setting; remove it or correct its name"
    return f"{_where(sources, key)}: {key} = {fault['input']!r}: {fault['msg']}"
