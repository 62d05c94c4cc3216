"""Every provider opened as its settings say, each against its scripted server, all asked in the one way.

`Subject` hides what differs between the servers, so that one feature is looked at in the same words for all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from pop_actors.config import ProviderSettings
from pop_actors.core.api_keys import ApiKey, ProviderKeys
from pop_actors.core.chat import ChatRequest
from pop_actors.providers import catalogue
from pop_actors.providers.registry import open_provider
from pop_actors.providers.types import AttemptFailed, Provider, ProviderReply
from pop_actors.system.gateway.loop import LoopThread
from support import fake_claude
from support.anthropic_server import AnthropicServer
from support.gemini_server import GeminiServer
from support.provider_server import ProviderServer

KEYS = ("key-the-first-1234567890", "key-the-second-1234567890")
SECONDS = 30.0
COMPATIBLE, RESPONSES = "compatible", "openai (responses)"
COLUMNS = (
    "openai",
    RESPONSES,
    *(name for name in catalogue.VENDORS if name != "openai"),
    catalogue.OFFLINE,
    COMPATIBLE,
)
"""What the table of docs/providers.md has a column for: every provider there is."""

# What a model has to be called for a server to do it, by the server; "" where it does so anyway, None where it cannot.
SCRIPTS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "openai": {
            "tool": "tool-weather", "cached": "cached-5", "written": "written-7", "reasoning": "reasoning-2",
            "blocked": "blocked", "truncated": "truncated", "quota": "quota", "wait": "fail-429+after-7s",
            "limits": "left-3-of-10", "overloaded": "fail-503", "badkey": "fail-401", "badkey once": "fail-401-1",
            "broken": "fail-500", "cut": "unfinished",
        },
        "wire": {
            "tool": "calls", "cached": "cached_5", "written": "written_7", "reasoning": "thinks_2",
            "truncated": "truncated", "wait": "fail_429+after_7", "limits": "left_3_10", "overloaded": "fail_503",
            "badkey": "fail_401", "badkey once": "fail_401_1", "broken": "fail_500", "cut": "cut",
        },
        "anthropic": {"blocked": "refusal", "quota": "spent", "overloaded": "fail_529"},
        "gemini": {"blocked": "blocked", "quota": "daily", "wait in body": "minute"},
        "claude-code": {
            "cached": "", "written": "", "reasoning": "", "blocked": "refusal", "truncated": "cut+words-_",
            "quota": "says-Credit_balance_is_too_low", "wait": "fail-429", "overloaded": "fail-529",
            "badkey": "fail-401+words-Invalid_API_key", "badkey once": "fail-401+words-Invalid_API_key",
            "broken": "fail-500",
        },
        "deepseek": {"cached": "cached-5-deepseek", "quota": "fail-402"},
        "moonshot": {
            "cached": "cached-5-kimi", "quota": "fail-403+word-exceeded_current_quota_error",
            "overloaded": "fail-429+word-engine_overloaded_error",
        },
        "zhipu": {"quota": "fail-429+word-1113", "overloaded": "fail-429+word-1305"},
    }
)  # fmt: skip


class Subject(ABC):
    """One provider. `sent` is what the last request to it said, as one JSON object; None where nothing was sent."""

    def __init__(self, column: str, loop: LoopThread) -> None:
        self.column = column
        self.name = {COMPATIBLE: "mine", RESPONSES: "openai"}.get(column, column)
        self._loop = loop
        self._opened: dict[tuple[bool, str], Provider] = {}
        self._texts = map((f"hello from {column}, {{}}").format, itertools.count(1))

    @property
    @abstractmethod
    def table(self) -> ProviderSettings | None:
        """What is set for it."""

    @property
    def kind(self) -> str:
        kind = catalogue.kind_of(self.name, self.table.kind if self.table else None)
        assert kind is not None
        return kind

    @property
    def model(self) -> str:
        """The model that is asked where nobody names one; `ok` where there is none."""
        return catalogue.default_model(self.name, self.kind) or "ok"

    @property
    def sent(self) -> dict[str, Any] | None:
        """A provider that sends nothing has none."""
        return None

    @property
    def requests(self) -> int:
        """How many were sent."""
        return 0

    def script(self, feature: str) -> str | None:
        """The model's name that has its server do that; None where it cannot."""
        word: str | None = None
        for family in ("wire" if self.kind in {"anthropic", "gemini"} else "openai", self.kind, self.name):
            if family == "openai" and self.kind in {"claude-code", catalogue.OFFLINE}:
                continue
            word = SCRIPTS.get(family, {}).get(feature, word)
        return word if word is None else "+".join(filter(None, (self.model, word)))

    def ask(
        self, model: str | None = None, *, stream: str = "never", keyed: bool = False, **request: Any
    ) -> ProviderReply:
        """One request. `keyed`: with two keys; else with none."""
        request.setdefault("messages", [{"role": "user", "content": next(self._texts)}])
        asked = ChatRequest.model_validate(request)

        async def call() -> ProviderReply:
            provider = self._provider(stream, keyed=keyed)
            return await provider.chat(asked, model or self.model, asyncio.get_running_loop().time() + SECONDS)

        return self._loop.submit(call()).result(SECONDS)

    def failure(self, model: str, **how: Any) -> AttemptFailed:
        """How a request fails that must."""
        try:
            reply = self.ask(model, **how)
        except AttemptFailed as failure:
            return failure
        raise AssertionError(f"{self.column}, {model}: it did not fail: {reply}")

    def close(self) -> None:
        async def let_go() -> None:
            for provider in self._opened.values():
                await provider.close()

        self._loop.submit(let_go()).result(SECONDS)

    def _provider(self, stream: str, *, keyed: bool) -> Provider:
        if (keyed, stream) not in self._opened:
            table = self.table and self.table.model_copy(update={"stream": stream})
            named = tuple(ApiKey(f"KEY_{place}", SecretStr(key)) for place, key in enumerate(KEYS))
            keys = ProviderKeys(named if keyed else ())
            self._opened[keyed, stream] = open_provider(self.name, table, keys, SECONDS)
        return self._opened[keyed, stream]


class Offline(Subject):
    """The one that is built in."""

    table = None


class Served(Subject):
    """One that speaks HTTP."""

    def __init__(self, column: str, loop: LoopThread, server: Any) -> None:
        super().__init__(column, loop)
        self.server = server

    @property
    def table(self) -> ProviderSettings:
        api = "responses" if self.column == RESPONSES else "chat"
        kind = "openai" if self.column == COMPATIBLE else None
        return ProviderSettings(kind=kind, base_url=self.server.base_url, api=api)

    @property
    def sent(self) -> dict[str, Any]:
        call = self.server.calls[-1]
        return {**call.body, "headers": call.headers, "path": call.path}

    @property
    def requests(self) -> int:
        return len(self.server.calls)


class ClaudeCode(Subject):
    """The CLI. What it is sent are its arguments, its environment, its input and what it can read."""

    def __init__(self, column: str, loop: LoopThread, record: Path) -> None:
        super().__init__(column, loop)
        self._record = record

    @property
    def table(self) -> ProviderSettings:
        command = (sys.executable, fake_claude.__file__, "--record", str(self._record))
        return ProviderSettings(command=command, base_url="http://127.0.0.1:9")

    @property
    def sent(self) -> dict[str, Any]:
        run = json.loads(self._record.read_text(encoding="utf-8").splitlines()[-1])
        options = dict(argument.partition("=")[::2] for argument in run["arguments"])
        given = {"a pipe": run["key"], "--system-prompt-file": run["system"], "standard input": run["prompt"]}
        return {**options, **given, "environment": run["environment"]}

    @property
    def requests(self) -> int:
        return len(self._record.read_text(encoding="utf-8").splitlines()) if self._record.exists() else 0


def every_subject(folder: Path) -> Iterator[dict[str, Subject]]:
    """By column. They and their servers are there while the generator is open."""
    with ExitStack() as opened:
        loop = LoopThread("providers-under-test")
        opened.callback(loop.stop)
        servers = {
            "openai": opened.enter_context(ProviderServer()),
            "anthropic": opened.enter_context(AnthropicServer()),
            "gemini": opened.enter_context(GeminiServer()),
        }
        subjects: dict[str, Subject] = {}
        for column in COLUMNS:
            if column == catalogue.OFFLINE:
                subjects[column] = Offline(column, loop)
            elif column == "claude-code":
                subjects[column] = ClaudeCode(column, loop, folder / "runs.jsonl")
            else:
                subjects[column] = Served(column, loop, servers.get(column, servers["openai"]))
            opened.callback(subjects[column].close)
        yield subjects
