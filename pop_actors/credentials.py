"""Where the keys of providers are read: the environment, systemd credentials, files. Called by the settings alone.

A key is known by the place it was read from, and nothing here says more of it, in errors neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from pydantic import SecretStr

from pop_actors.core.api_keys import ApiKey, ProviderKeys

PROVIDER_KEYS = MappingProxyType(
    {
        "openai": "OPENAI_API_KEY",
        "deepseek": "DEEPSEEK_API_KEY",
        "anthropic": "ANTHROPIC_API_KEY",
        "gemini": "GEMINI_API_KEY",
        "moonshot": "MOONSHOT_API_KEY",
        "zhipu": "ZHIPU_API_KEY",
        "claude-code": "ANTHROPIC_API_KEY",
    }
)
FOLDER = "CREDENTIALS_DIRECTORY"  # the variable by which systemd says where they are
MOST_BYTES = 4096


class KeyPlaces(Protocol):
    """What `[gateway.providers.NAME]` says of keys; None: nothing."""

    @property
    def api_key_env(self) -> Sequence[str] | None: ...
    @property
    def api_key_file(self) -> Sequence[str] | None: ...


def variables(providers: Mapping[str, KeyPlaces]) -> dict[str, tuple[str, ...]]:
    """By provider: the variables, or credentials of the same names, that its keys are read from."""
    found: dict[str, tuple[str, ...]] = {name: (variable,) for name, variable in PROVIDER_KEYS.items()}
    for name, places in providers.items():
        if places.api_key_env is not None:
            found[name] = tuple(places.api_key_env)
        elif places.api_key_file is not None:
            found[name] = ()
    return found


def read(providers: Mapping[str, KeyPlaces], environ: Mapping[str, str], root: Path) -> dict[str, ProviderKeys]:
    """By provider: its keys in the order of their use, variables before files (paths relative to `root`).

    What is missing stops nobody here: the calls of that provider say it.
    """
    return {
        name: _together(
            [
                *(_from_environment(variable, environ) for variable in names),
                *(_from_file(path, root) for path in _files(providers.get(name))),
            ]
        )
        for name, names in variables(providers).items()
    }


def _files(places: KeyPlaces | None) -> Sequence[str]:
    return () if places is None or places.api_key_file is None else places.api_key_file


def _together(looked_for: Sequence[ApiKey | str]) -> ProviderKeys:
    def distinct() -> Iterator[ApiKey]:
        seen = set()
        for key in looked_for:
            if isinstance(key, ApiKey) and key.secret.get_secret_value() not in seen:
                seen.add(key.secret.get_secret_value())
                yield key

    return ProviderKeys(tuple(distinct()), tuple(fault for fault in looked_for if isinstance(fault, str)))


def _from_environment(variable: str, environ: Mapping[str, str]) -> ApiKey | str:
    """The key, or why there is none."""
    value = environ.get(variable, "").strip()
    folder = environ.get(FOLDER)
    if not value and folder:
        try:
            value = _content(Path(folder) / variable)
        except (OSError, UnicodeDecodeError):
            value = ""
    return _key(variable, value, f"{variable} is not set")


def _from_file(path: str, root: Path) -> ApiKey | str:
    try:
        value = _content(root / path)
    except OSError as error:
        return f"{path}: {os.strerror(error.errno or 0)}"
    except UnicodeDecodeError:
        return f"{path}: it is not UTF-8 text"
    return _key(path, value, f"{path} is empty")


def _content(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe nobody writes to is empty, and holds nobody up
    try:
        return os.read(descriptor, MOST_BYTES + 1).decode("utf-8").strip()
    finally:
        os.close(descriptor)


def _key(name: str, value: str, missing: str) -> ApiKey | str:
    if not value:
        return missing
    if len(value) > MOST_BYTES:
        return f"{name} is longer than any key"
    if not (value.isascii() and value.isprintable() and " " not in value):
        return f"{name} holds a space or another sign no key has"
    return ApiKey(name, SecretStr(value))
