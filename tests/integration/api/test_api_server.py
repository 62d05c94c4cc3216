"""The server's life: where it binds, what stops its start, and that nothing is left when it stops."""

from __future__ import annotations

import socket
import stat
import threading
from pathlib import Path

import httpx2
import pytest

from pop_actors.api.server import ApiServer
from pop_actors.config import HttpSettings
from pop_actors.core.observations import Feed
from pop_actors.errors import SettingsError
from pop_actors.metrics import Metrics
from pop_actors.storage.layout import Workspace
from support.memory_control import MemoryControl, Service, eventually


def make(path: Path, http: HttpSettings) -> ApiServer:
    feed = Feed()
    return ApiServer(MemoryControl(Workspace(path, path), feed), feed, Metrics(), http, path / "s.sock")


def test_a_taken_port_stops_the_start(service: Service, tmp_path: Path) -> None:
    """The error names the setting, and no socket file stays behind."""
    assert service.server.port is not None
    second = make(tmp_path, HttpSettings(port=service.server.port))
    with pytest.raises(SettingsError, match=rf"http\.port = {service.server.port}.*in use"):
        second.start()
    assert not (tmp_path / "s.sock").exists()


def test_http_may_be_off(tmp_path: Path) -> None:
    """Then there is the Unix socket only."""
    server = make(tmp_path, HttpSettings(enabled=False))
    server.start()
    try:
        assert server.port is None
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(server.socket_path))) as client:
            assert client.get("http://localhost/healthz").status_code == 200
    finally:
        server.stop()


def test_the_socket_is_for_owner_and_group(service: Service) -> None:
    """Mode 0660, and no half-made socket beside it."""
    path = service.server.socket_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith("popd.sock")] == [path.name]


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A daemon that was killed leaves its file; the next start takes the place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "s.sock"))
    server = make(tmp_path, HttpSettings(port=0))
    server.start()
    server.stop()
    assert not (tmp_path / "s.sock").exists()


def test_a_socket_somebody_listens_at_is_left_alone(tmp_path: Path) -> None:
    """Another program's socket is not taken away."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "s.sock"))
        other.listen()
        with pytest.raises(SettingsError, match="another program listens"):
            make(tmp_path, HttpSettings(port=0)).start()
        assert (tmp_path / "s.sock").exists()


def test_a_file_in_the_sockets_place_is_not_overwritten(tmp_path: Path) -> None:
    """Only sockets are replaced."""
    (tmp_path / "s.sock").write_text("precious")
    with pytest.raises(SettingsError, match="something else than a socket"):
        make(tmp_path, HttpSettings(port=0)).start()
    assert (tmp_path / "s.sock").read_text() == "precious"


def test_stopping_twice_is_fine_and_leaves_nothing(tmp_path: Path) -> None:
    """Thread, port and socket file are gone when stop returns; a second stop does nothing."""
    server = make(tmp_path, HttpSettings(port=0))
    server.start()
    port = server.port
    assert port is not None
    server.stop()
    server.stop()
    assert not server.running
    assert not server.socket_path.exists()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
    assert not [thread for thread in threading.enumerate() if thread.name == "api"]


def test_stopping_does_not_wait_for_idle_or_half_sent_requests(service: Service) -> None:
    """A connection that sends half a request holds nothing up."""
    half = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    half.connect(str(service.server.socket_path))
    half.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
    service.server.stop()
    assert not service.server.running
    half.close()


def test_the_end_of_the_loop_is_heard(tmp_path: Path) -> None:
    """When the API's thread ends by itself, whoever supervises it is told why."""
    heard: list[str] = []
    feed = Feed()
    control = MemoryControl(Workspace(tmp_path, tmp_path), feed)
    server = ApiServer(control, feed, Metrics(), HttpSettings(port=0), tmp_path / "s.sock", on_death=heard.append)
    server.start()
    assert server._loop is not None
    server._loop.call_soon_threadsafe(server._begin_stop)
    assert eventually(lambda: heard) == ["the API's loop ended"]
    server.stop()
