"""`ApiServer`: owns the listening sockets, one thread with one loop, and the two uvicorn servers on it.

Whoever wraps it starts and stops it; the daemon's logic never calls it, it only asks the daemon through `Control`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pop_actors.api.app import build_app
from pop_actors.api.control import Control
from pop_actors.api.events import EventRing
from pop_actors.api.gate import Gate
from pop_actors.api.parts import Calls, Parts
from pop_actors.api.sockets import bind_tcp, bind_unix, remove_unix
from pop_actors.api.stream import HEARTBEAT_SECONDS
from pop_actors.config import HttpSettings
from pop_actors.core.observations import Feed, Gauges

START_SECONDS = 10.0
STOP_SECONDS = 5.0
GRACE_SECONDS = 1.0
DEFAULT_BODY_BYTES = 1048576


class RendersMetrics(Protocol):
    """`metrics.Metrics`, as far as the API knows it."""

    def sample(self, gauges: Callable[[], Gauges]) -> None: ...

    def render(self) -> bytes: ...


class ApiServer:
    """HTTP on the Unix socket and, where http.enabled, on TCP. Start it once; stop it as often as you like."""

    def __init__(
        self,
        control: Control,
        feed: Feed,
        metrics: RendersMetrics,
        http: HttpSettings,
        socket_path: Path,
        *,
        max_body_bytes: int = DEFAULT_BODY_BYTES,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        on_death: Callable[[str], None] = lambda reason: None,  # noqa: ARG005  (a name for callers)
    ) -> None:
        """`on_death(reason)` is called from the API's thread when it ends without having been stopped."""
        self.socket_path = socket_path
        self.port: int | None = None
        self._http = http
        self._feed = feed
        self._max_body_bytes = max_body_bytes
        self._on_death = on_death
        self._ring = EventRing(first_id=int(time.time() * 1000))
        self._calls = Calls()
        metrics.sample(control.gauges)
        self._app = build_app(Parts(control, self._calls, self._ring, metrics.render, heartbeat_seconds))
        self._servers: list[_Server] = []
        self._inode = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._up = threading.Event()
        self._stopping = False
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Return when both addresses answer. SettingsError where one cannot be had."""
        unix = bind_unix(self.socket_path)
        self._inode = self.socket_path.stat().st_ino
        self._servers = [_Server(self._config(tcp=False), [unix])]
        if self._http.enabled:
            try:
                tcp = bind_tcp(self._http.host, self._http.port)
            except BaseException:
                unix.close()
                remove_unix(self.socket_path, self._inode)
                raise
            self.port = tcp.getsockname()[1]
            self._servers.append(_Server(self._config(tcp=True), [tcp]))
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._thread.start()
        if not self._up.wait(START_SECONDS) or not self._thread.is_alive():
            self.stop()
            raise RuntimeError("the API did not come up; its log lines say why")
        self._forget = self._feed.add(self._ring.on_observation)

    def stop(self) -> None:
        """End every stream and connection, and return when the thread is gone. Idempotent."""
        self._stopping = True
        self._forget()
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(self._begin_stop)
            thread.join(STOP_SECONDS)
        self._calls.close()
        if self._inode:
            remove_unix(self.socket_path, self._inode)

    @property
    def running(self) -> bool:
        """Whether the API's thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def snapshot(self) -> dict[str, object]:
        """What it is doing now."""
        return {
            "socket": str(self.socket_path),
            "port": self.port,
            "running": self.running,
            "readers": self._ring.readers,
            "droppedReaders": self._ring.dropped,
            "lastEventId": self._ring.last_id,
        }

    def __repr__(self) -> str:
        return f"ApiServer({str(self.socket_path)!r}, port={self.port}, {'up' if self.running else 'down'})"

    def _config(self, *, tcp: bool) -> uvicorn.Config:
        gate = Gate(
            self._app,
            tcp=tcp,
            allow_mutations=self._http.allow_mutations,
            max_body_bytes=self._max_body_bytes,
        )
        return uvicorn.Config(
            gate,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )

    def _run(self) -> None:
        reason = "the API's loop ended"
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._forget()
            self._ring.close()
            self._up.set()
            if not self._stopping:
                self._on_death(reason)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring.attach(self._loop)
        serving = [asyncio.create_task(server.serve(server.sockets)) for server in self._servers]
        for server in self._servers:
            await server.listening.wait()
        self._up.set()
        await asyncio.gather(*serving)

    def _begin_stop(self) -> None:
        self._ring.close()
        for server in self._servers:
            server.leave.set()


class Connection(H11Protocol):
    """uvicorn's connection, which lets a route cut it off: `scope["state"]["transport"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """uvicorn without its ten ticks a second: it waits until it is told to leave, and then leaves at once."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config)
        self.sockets = sockets
        self.listening = asyncio.Event()
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.listening.set()
        await self.leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Politely: no new connections, requests under way may end. Then what is left is cut off."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=GRACE_SECONDS)
        for transport in [one.transport for one in self.server_state.connections if isinstance(one, Connection)]:
            transport.abort()
        await asyncio.sleep(0)
        for listener in sockets or ():
            listener.close()
