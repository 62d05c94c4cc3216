"""TLS before a plain server on this machine, with a certificate that holds or one that nobody vouches for, live."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Self

SECONDS = 10.0


class TlsFront:
    """Takes HTTPS at `port` and hands it on as plain HTTP. `authority`: the file that vouches for its certificate."""

    def __init__(self, folder: Path, server_port: int) -> None:
        self._good = _certificate(folder / "good.pem")
        self._bad = _certificate(folder / "bad.pem")
        self.authority = self._good
        self.handshakes = 0
        self._server_port = server_port
        self._is_trusted = True
        self._idle: set[asyncio.StreamWriter] = set()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self._good)
        self._context.sni_callback = self._count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front", daemon=True)
        self.port = 0

    def trust(self, *, yes: bool) -> None:
        """Whether its certificate holds from now on. Where it does not, connections end once they are idle."""
        asyncio.run_coroutine_threadsafe(self._trust(yes), self._loop).result(SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _count(self, *_: object) -> None:
        self.handshakes += 1

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, backlog=512)
        self.port = server.sockets[0].getsockname()[1]

    async def _trust(self, yes: bool) -> None:
        self._is_trusted = yes
        self._context.load_cert_chain(self._good if yes else self._bad)
        for writer in () if yes else tuple(self._idle):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._idle.add(writer)
        try:
            await asyncio.gather(self._requests(reader, inner_writer, writer), self._replies(inner_reader, writer))
        except (ConnectionError, ssl.SSLError):
            pass  # one side has gone
        finally:
            self._idle.discard(writer)
            writer.close()
            inner_writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, inner: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(65536):
            self._idle.discard(writer)
            inner.write(piece)
            await inner.drain()
        inner.close()

    async def _replies(self, inner: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # the server says each reply at once, so that what has been handed on is the whole of it
        while piece := await inner.read(2**20):
            writer.write(piece)
            await writer.drain()
            self._idle.add(writer)
            if not self._is_trusted:
                break
        with contextlib.suppress(RuntimeError):
            writer.close()


def _certificate(path: Path) -> Path:
    """A key, and a certificate for localhost signed with it."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(path), "-out", str(path.with_suffix(".crt"))],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path
