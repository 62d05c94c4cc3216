"""What a seed says: its keys, their types and limits. Whether its pipeline exists is the catalogue's question."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from pop_actors.core.ids import is_job_id
from pop_actors.core.strict_json import parse
from pop_actors.errors import InvalidJson, SeedRejected

Mode = Literal["production", "pilot", "shadow"]
SHOWN_CHARACTERS = 60
Text = Annotated[str, Field(min_length=1)]

ALLOWED = {
    "name": "a text that is not empty",
    "pipeline": "a text that is not empty: a slug of the registry",
    "data": "an object (required)",
    "priority": "a whole number between -2^53 and 2^53",
    "dependsOn": "a list of job ids, without its own",
    "conflicts": "a list of texts that are not empty",
    "mode": "production, pilot or shadow",
    "skip": "a list of task names",
    "force": "true or false",
    "dryRun": "true or false",
    "budgetUsd": "a finite number, 0 or more",
}


class Seed(BaseModel):
    """A seed as it was dropped. `raw` is the whole object as parsed, unknown keys included; tasks get that one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", alias_generator=to_camel)

    name: Text
    data: dict[str, Any]
    pipeline: Text | None = None
    priority: int = Field(default=0, ge=-(2**53), le=2**53)
    depends_on: list[str] = Field(default_factory=list)
    conflicts: list[Text] = Field(default_factory=list)
    mode: Mode | None = None
    skip: list[Text] = Field(default_factory=list)
    force: bool = False
    dry_run: bool = False
    budget_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def raw(self) -> dict[str, Any]:
        return self._raw

    @field_validator("depends_on")
    @classmethod
    def _are_job_ids(cls, names: list[str]) -> list[str]:
        for name in names:
            if not is_job_id(name):
                raise ValueError(f"{name!r} is no job id")
        return names


def parse_seed(content: bytes, job_id: str, max_bytes: int) -> Seed:
    """The seed these bytes are. SeedRejected: too_large, invalid_json, or invalid_seed naming each wrong key."""
    if len(content) > max_bytes:
        raise SeedRejected("too_large", f"the seed is larger than {max_bytes} bytes (jobs.seed_max_bytes)")
    try:
        document = parse(content)
    except InvalidJson as error:
        raise SeedRejected("invalid_json", f"the seed is not strict JSON: {error}") from None
    return seed_from(document, job_id)


def seed_from(document: Any, job_id: str) -> Seed:
    """The seed a parsed document is; `name` defaults to the job id. SeedRejected: invalid_seed."""
    if not isinstance(document, dict):
        raise SeedRejected("invalid_seed", f"the seed must be an object, not {_kind(document)}")
    faults = [f"{key}: must be {ALLOWED[key]}, not null" for key in ALLOWED if document.get(key, "") is None]
    try:
        seed = Seed.model_validate({"name": job_id, **document})
    except ValidationError as error:
        explained = [_explain(fault) for fault in error.errors(include_url=False)]
        faults += [fault for fault in explained if fault not in faults]
    else:
        if job_id in seed.depends_on:
            faults.append(f"dependsOn: must be {ALLOWED['dependsOn']}; {job_id!r} would wait for itself")
    if faults:
        raise SeedRejected("invalid_seed", "; ".join(faults))
    seed._raw = document  # noqa: SLF001  (this module's own class: private so that the model does not dump it twice)
    return seed


def _explain(fault: Any) -> str:
    key = str(fault["loc"][0])
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{path}: is missing and must be {ALLOWED[key]}"
    return f"{path}: must be {ALLOWED[key]}, not {_brief(fault['input'])}"


def _brief(value: Any) -> str:
    if value is None or isinstance(value, (bool, dict, list)):
        return _kind(value)
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), "null")
