"""The daemon as popctl sees it: HTTP over its Unix socket. Tells no daemon, a slow one and a refusal apart."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pop_actors.cli.failure import NOT_FOUND, REFUSED, CommandFailed, no_daemon

DEADLINE_SECONDS = 10.0
SILENCE_SECONDS = 45.0  # a stream beats every 15
CONNECT_SECONDS = 2.0
ALL = 10000
_NOT_FOUND_CODES = frozenset({"not_found", "unknown_provider"})


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of `/api/events`; `id` None where it has none (a heartbeat)."""

    id: str | None
    kind: str
    data: Any


class Daemon:
    """Asks one popd. Every method raises CommandFailed with the exit code that fits."""

    def __init__(self, path: Path, root: Path, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        import httpx2  # 35 ms, and `--help` and the scaffolding do without

        self._errors = httpx2
        self._path = path
        self._root = root
        self._deadline = deadline_seconds
        transport = httpx2.HTTPTransport(uds=str(path), verify=False)
        self._http = httpx2.Client(
            transport=transport, base_url="http://localhost", timeout=deadline_seconds, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """The `data` of a GET."""
        return self._ask("GET", path, params={key: value for key, value in parameters.items() if value is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """The `data` of a POST."""
        return self._ask("POST", path, json=body) if body is not None else self._ask("POST", path)

    def events(self, job_id: str | None, last_event_id: str | None, *, follow: bool) -> Iterator[StreamEvent]:
        """The event stream until the daemon ends it."""
        parameters = {"follow": "true" if follow else "false", **({"jobId": job_id} if job_id else {})}
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        try:
            with self._http.stream(
                "GET", "/api/events", params=parameters, headers=headers, timeout=SILENCE_SECONDS
            ) as reply:
                yield from parse_events(reply.iter_lines())
        except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
            raise self._unreachable(error) from None
        except self._errors.TransportError:
            return

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            reply = self._http.request(method, path, **request)
        except (self._errors.ConnectError, OSError) as error:
            raise self._unreachable(error) from None
        except self._errors.TimeoutException:
            message = f"popd is there but did not answer within {self._deadline:g} s; try again, and look at its log"
            raise CommandFailed("timeout", message) from None
        except self._errors.TransportError as error:
            message = f"popd closed the connection ({type(error).__name__}); it may be stopping: try again"
            raise CommandFailed("disconnected", message) from None
        return _data_of(reply.status_code, reply.content)

    def _unreachable(self, error: Exception) -> CommandFailed:
        if "Permission denied" in str(error):
            message = f"{self._path}: permission denied; run as popd's user or as a member of the socket's group"
            return CommandFailed("forbidden", message)
        return no_daemon(self._path, self._root)


def _data_of(status: int, content: bytes) -> Any:
    try:
        envelope = json.loads(content)
        if envelope["ok"]:
            return envelope["data"]
        code, message = str(envelope["code"]), str(envelope["message"])
    except (ValueError, KeyError, TypeError):
        raise CommandFailed("bad_reply", f"HTTP {status} with an answer that is not popd's; check --socket") from None
    raise CommandFailed(code, message, NOT_FOUND if code in _NOT_FOUND_CODES else REFUSED)


def listens(path: Path) -> bool:
    """Whether somebody listens at the socket, however slow; without the cost of a request."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def parse_events(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Server-sent events from their lines; comments and fields unknown here are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield StreamEvent(fields.get("id"), fields.get("event", "message"), json.loads(fields["data"]))
        fields = {}
