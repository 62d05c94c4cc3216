"""Settings: pop.toml, the environment (which wins), and the short names of old. The only reader of the environment.

Read once at start into frozen values; each part is handed its own table. Provider keys are read (by `credentials`) and
removed from the environment, so that no process started later inherits them.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from pop_actors import credentials
from pop_actors.core.api_keys import ProviderKeys
from pop_actors.core.fallback import alias_faults
from pop_actors.errors import SettingsError
from pop_actors.provider_tables import Fault, faults_of
from pop_actors.storage.layout import Workspace

SHORT_NAMES = {"PO_MAX_RUNNING_JOBS": ("jobs", "max_running"), "PO_LOG_LEVEL": ("logging", "level")}


def _fits_a_header(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("a header's value is printable ASCII, in one line")
    return value


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
HeaderValue = Annotated[SecretStr, AfterValidator(_fits_a_header)]
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*")
_HEADERS = re.compile(r"^PO_\w.*__HEADERS(__|$)", re.IGNORECASE)
UNSHOWN = ("api_key", ".headers", ".otlp_endpoint")  # what stands there may be, or hold, a secret
SECRETIVE = "api_key"  # a setting of such a name may hold, by mistake, what must not be shown


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


class LimitSettings(_Table):
    """What may be asked of a provider, or of one of its models; None: unlimited."""

    requests_per_minute: AtLeastOne | None = None
    tokens_per_minute: AtLeastOne | None = None
    input_tokens_per_minute: AtLeastOne | None = None
    output_tokens_per_minute: AtLeastOne | None = None
    requests_per_day: AtLeastOne | None = None
    max_concurrency: AtLeastOne | None = None


class ProviderSettings(LimitSettings):
    """One `[gateway.providers.NAME]`; what is left out comes from the catalogue of providers."""

    kind: Literal["openai", "anthropic", "gemini", "claude-code", "offline"] | None = None
    base_url: str | None = None
    api_key_env: tuple[str, ...] | None = None
    """The variables, or systemd credentials, that hold its keys: one name, or several in the order of their use."""
    api_key_file: tuple[str, ...] | None = None
    """Files with a key each, used after those; relative to the root."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ("claude",)
    """Of the kind claude-code: what is run."""
    api: Literal["chat", "responses"] = "chat"
    """Of the OpenAI kind: which of its two APIs is asked."""
    stream: Literal["auto", "always", "never"] = "auto"
    """Replies come as streams inside the gateway; auto: where they may be long."""
    drop_unsupported: bool = True
    """A parameter the model is known to refuse is left out with a warning; false: the call fails before it is sent."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """Sent with every request, beside what the provider's kind needs."""
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] | None = None
    """Of the OpenAI kind: its name for the limit."""
    schemas: Literal["native", "shown"] | None = None
    """Of the OpenAI kind: it takes a JSON Schema itself, or only promises JSON and has to be shown the schema."""
    models: dict[str, LimitSettings] = Field(default_factory=dict)
    """Limits of single models, beside the provider's own."""
    daily_budget_usd: NotNegative | None = None

    @field_validator("api_key_env", "api_key_file", "command", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("api_key_env")
    @classmethod
    def _are_names(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if not all(VARIABLE.fullmatch(name) for name in names or ()):
            raise ValueError("names of environment variables stand here (A-Z, 0-9, _), never a key itself")
        return names


class PriceSettings(_Table):
    """One `[gateway.prices."PROVIDER:MODEL"]`: dollars per million tokens; the last two are as `input` if left out."""

    input: NotNegative
    output: NotNegative
    cached_input: NotNegative | None = None
    cache_write: NotNegative | None = None


class CacheSettings(_Table):
    """`[gateway.cache]`: the same request again is answered from disk, for development."""

    enabled: bool = False
    ttl_seconds: Positive = 86400.0
    max_entries: AtLeastOne = 10000


class GatewaySettings(_Table):
    default_provider: str = "offline"
    default_model: str | None = None
    request_timeout_seconds: Positive = 600.0
    idle_timeout_seconds: Positive = 60.0
    max_retries: Count = 3
    max_waiting_per_job: AtLeastOne = 1000
    max_waiting: AtLeastOne = 10000
    max_ambiguous_retries: Count | None = None
    """Of `max_retries`, how many may follow a failure after which the provider may have done the work: each may pay
    twice. None: all of them."""
    daily_budget_usd: NotNegative | None = None
    pipeline_daily_budget_usd: dict[str, NotNegative] = Field(default_factory=dict)
    on_budget: Literal["fail", "wait"] = "fail"
    """What becomes of a call when a budget of the day is spent: it fails, or waits until midnight UTC."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """`"provider:name" = "provider:model"`; who answered is named by the latter."""
    cache: CacheSettings = CacheSettings()
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """By `"provider:model"`, or `"provider:*"` for its other models; they go before the prices that are known."""

    @field_validator("aliases")
    @classmethod
    def _lead_to_models(cls, aliases: dict[str, str]) -> dict[str, str]:
        faults = alias_faults(aliases)
        if faults:
            raise ValueError("; ".join(faults))
        return aliases

    @field_validator("prices")
    @classmethod
    def _name_models(cls, prices: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        for name in prices:
            if not all(name.partition(":")):
                raise ValueError(f'{name!r} names no model: write "provider:model", or "provider:*"')
        return prices


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
    prompts: bool = False
    """Log what models are asked and what they reply; never without being asked to."""
    redact: tuple[str, ...] = ()
    """Regular expressions: what they match in a logged prompt or reply is blacked out, besides what looks like a key.
    """

    @field_validator("redact")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns


class TelemetrySettings(_Table):
    """`[telemetry]`: where OpenTelemetry's traces of the runs go. Needs the extra `otel`."""

    otlp_endpoint: str | None = None
    """A collector's address; `/v1/traces` is added where it has no path. None: no traces."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """Sent with every request to it: its key."""
    service_name: Annotated[str, Field(min_length=1)] = "pop_actors"

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.match(r"https?://[^/\s@]+(/\S*)?$", endpoint):
            raise ValueError("an http or https address stands here, as http://127.0.0.1:4318; keys go into headers")
        return endpoint


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
    keys: dict[str, ProviderKeys] = Field(default_factory=dict, repr=False, exclude=True)
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
    telemetry: TelemetrySettings = TelemetrySettings()

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
                "fault_point": environ.get("PO_FAULT_POINT") or None,
                "surroundings": _surroundings(environ),
            }
        )
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault, sources) for fault in error.errors())) from None
    faults = list(faults_of(settings.gateway.default_provider, settings.gateway.providers))
    if faults:
        raise SettingsError("; ".join(_explain_table(fault, sources) for fault in faults))
    return settings.model_copy(update={"keys": read_keys(settings.gateway, root, environ)})


def read_keys(gateway: GatewaySettings, root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, ProviderKeys]:
    """By provider: its keys, from where the settings say, and what is missing of them."""
    return credentials.read(gateway.providers, environ, root)


def _surroundings(environ: Mapping[str, str]) -> Surroundings:
    watchdog = environ.get("WATCHDOG_USEC", "")
    return Surroundings(
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        journal_stream=environ.get("JOURNAL_STREAM") or None,
        runtime_dir=environ.get("XDG_RUNTIME_DIR") or None,
        watchdog_seconds=int(watchdog) / 1e6 / 3 if watchdog.isdecimal() and int(watchdog) else None,
    )


def take_keys_out_of(environ: dict[str, str] | os._Environ[str], settings: Settings) -> list[str]:
    """Remove the variable of every provider's key, also one that nobody reads, and of every header, so that no process
    started from here on has it; their names."""
    places = credentials.variables(settings.gateway.providers).values()
    headers = {name for name in environ if _HEADERS.search(name)}
    names = sorted(
        {name for names in places for name in names}
        | {*credentials.PROVIDER_KEYS.values()}
        | headers
        | {credentials.FOLDER}
    )
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


def _where(sources: Mapping[str, str], key: str) -> str:
    source = sources.get(key) or sources.get(key.partition(".")[0]) or "pop.toml"
    return f"{source}: [{key}]" if source == "pop.toml" else source


def _explain(fault: Any, sources: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden" and SECRETIVE in key:
        return f"{_where(sources, key)}: {key}: no such setting; keys are named by api_key_env or api_key_file"
    if fault["type"] == "extra_forbidden":
        return f"{_where(sources, key)}: {key}: no such setting; remove it or correct its name"
    value = "" if any(word in key for word in UNSHOWN) else f" = {fault['input']!r}"
    return f"{_where(sources, key)}: {key}{value}: {fault['msg']}"


def _explain_table(fault: Fault, sources: Mapping[str, str]) -> str:
    key = f"gateway.{fault.key}"
    value = "" if fault.value is None else f" = {fault.value!r}"
    return f"{_where(sources, key)}: {key}{value}: {fault.allowed}"
