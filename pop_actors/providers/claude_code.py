"""The provider behind the Claude Code CLI: one process per call, in a folder of its own that is removed after it.

Never puts a key into an argument, a file or an environment: the CLI reads it from a pipe when it asks for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest
from pop_actors.providers import claude_code_wire as wire
from pop_actors.providers import command, failures
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.fitting import fit
from pop_actors.providers.prices import Prices
from pop_actors.providers.types import AttemptFailed, ProviderReply

PASSED_ON = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "CLAUDE_CONFIG_DIR", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
"""All that the CLI sees of our environment."""
KEY_COPIES = 8  # it may ask more than once; a pipe's buffer holds that many

_log = logging.getLogger("pop_actors.providers")


@dataclass(frozen=True, slots=True)
class Cli:
    """What to run, and for whom. `key` None: whoever is logged in. `base_url` None: where the CLI goes by itself."""

    name: str
    command: Sequence[str]
    base_url: str | None
    key: SecretStr | None
    vendor: Vendor
    drop_unsupported: bool
    environment: Mapping[str, str]


class ClaudeCodeProvider:
    """A `Provider` that asks the CLI. It holds nothing between calls."""

    def __init__(self, cli: Cli, prices: Prices) -> None:
        self._cli = cli
        self._prices = prices
        self._warned: set[str] = set()

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """One run of the CLI, which is killed at the deadline."""
        request, left_out = fit(request, model, self._cli.vendor, drop=self._cli.drop_unsupported)
        self._warn_of(left_out)
        told = wire.prompt(request)
        with _folder() as folder, self._key_pipe(folder) as key_pipe:
            system_file = _written(folder / "system-prompt", wire.system_prompt(request))
            arguments = wire.arguments(request, model, system_file=system_file, key_pipe=key_pipe)
            result = await self._run(arguments, told, self._environment(request, folder), folder, deadline)
        try:
            parsed = wire.reply(result, request, time.time())
        except AttemptFailed as failure:
            if failure.usage is not None:
                failure.cost_usd = self._cost(model, result)
            raise
        return ProviderReply(parsed.content, parsed.usage, parsed.finish_reason, self._cost(model, result))

    async def close(self) -> None:
        """There is nothing to let go of: every call ends its process."""

    async def _run(
        self, arguments: Sequence[str], told: bytes, environment: Mapping[str, str], folder: Path, deadline: float
    ) -> wire.Result:
        program = self._cli.command[0]
        try:
            ended = await command.run(
                [*self._cli.command, *arguments],
                told,
                environment=environment,
                folder=str(folder),
                is_whole=wire.is_whole,
                deadline=deadline,
            )
        except TimeoutError:
            raise AttemptFailed("timeout", f"{program} had no result by the deadline", "ambiguous") from None
        except command.TooMuchOutput as error:
            raise AttemptFailed("bad_reply", f"{program} wrote {error}", "permanent") from None
        except (FileNotFoundError, PermissionError) as error:
            raise AttemptFailed(
                "connect",
                f"{program} cannot be run: {error.strerror}; install it, or name it in "
                f"[gateway.providers.{self._cli.name}] command",
                "permanent",
            ) from None
        except OSError as error:  # no process, memory or descriptor to be had now
            raise AttemptFailed("connect", f"{program} cannot be run: {error.strerror}", "never_sent") from None
        result = wire.result_in(self._without_key(ended.output))
        if result is None:
            errors = self._without_key(ended.errors.encode()).decode()
            raise wire.without_result(ended.code, errors, str(folder))
        return result

    def _environment(self, request: ChatRequest, folder: Path) -> dict[str, str]:
        environment = {**self._cli.environment, **wire.ENVIRONMENT, "TMPDIR": str(folder)}
        if self._cli.key is not None:
            environment |= {"HOME": str(folder), "CLAUDE_CONFIG_DIR": str(folder / "claude")}
        if self._cli.base_url is not None:
            environment["ANTHROPIC_BASE_URL"] = self._cli.base_url.rstrip("/")
        if request.max_tokens is not None:
            environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(request.max_tokens)
        return environment

    @contextlib.contextmanager
    def _key_pipe(self, folder: Path) -> Iterator[str | None]:
        """A pipe in the folder from which the key can be read while this lasts, a line each time."""
        if self._cli.key is None:
            yield None
            return
        path = folder / "key"
        os.mkfifo(path, 0o600)
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(pipe, f"{self._cli.key.get_secret_value()}\n".encode() * KEY_COPIES)
            yield str(path)
        finally:
            os.close(pipe)

    def _cost(self, model: str, result: wire.Result) -> float | None:
        """By the settings, else as the CLI says, else by the tables."""
        own = self._prices.own_cost(model, result.usage)
        if own is not None:
            return own
        return result.cost_usd or self._prices.cost(model, result.usage)

    def _warn_of(self, left_out: Sequence[str]) -> None:
        for what in left_out:
            if what not in self._warned:
                self._warned.add(what)
                _log.warning("%s: not sent, since the CLI does not take it: %s", self._cli.name, what)

    def _without_key(self, said: bytes) -> bytes:
        key = self._cli.key
        return said if key is None else said.replace(key.get_secret_value().encode(), b"***")

    def __repr__(self) -> str:
        return f"ClaudeCodeProvider({self._cli.name}, {' '.join(self._cli.command)})"


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What the CLI needs of an environment."""
    return {name: environ[name] for name in PASSED_ON if name in environ}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="claude-code-"))
    except OSError as error:
        raise AttemptFailed("connect", f"no temporary folder: {error.strerror}", "never_sent") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(path: Path, content: str) -> str | None:
    """The path of a file with that content; None for nothing."""
    if not content:
        return None
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise AttemptFailed("connect", failures.short(f"{path}: {error.strerror}"), "never_sent") from None
    return str(path)
