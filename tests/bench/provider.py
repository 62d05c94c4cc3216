"""A provider that costs next to nothing: one reply for everybody, after a delay, in a process of its own.

`python -m tests.bench.provider PORT_FILE`; a request's model is the delay in milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.daemon import wait_until

USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
MESSAGE = {"role": "assistant", "content": "A reply. " * 80}
REPLY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(REPLY), REPLY)
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_MODEL = re.compile(rb'"model": ?"(?:[a-z-]*/)?(\d+)"')


class Replies(asyncio.Protocol):
    """One connection; requests come whole or in pieces, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen = b""
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head = self._seen.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._seen, 0, head + 2)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._seen) < end:
            return
        model = _MODEL.search(self._seen, head)
        self._seen = self._seen[end:]
        delay = int(model[1]) / 1000 if model else 0.0
        if delay:
            self._loop.call_later(delay, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)


@contextlib.contextmanager
def provider() -> Iterator[str]:
    """Its base URL, while it runs."""
    with tempfile.TemporaryDirectory(prefix="pop-bench-") as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, "-m", "tests.bench.provider", str(port_file)])
        try:
            wait_until(port_file.exists, 20, "the provider to listen")
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            process.kill()
            process.wait(10)


async def _serve(port_file: Path) -> None:
    server = await asyncio.get_running_loop().create_server(Replies, "127.0.0.1", 0, backlog=4096)
    fresh = port_file.with_suffix(".new")
    fresh.write_text(str(server.sockets[0].getsockname()[1]))
    fresh.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
