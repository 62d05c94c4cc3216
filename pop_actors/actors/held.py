"""What one link has sent to actors that cannot take it now: in order for each of them, bounded by its bytes.

The hub keeps one for each link. Nothing here does I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from pop_actors.actors.wire import Envelope

HELD_BYTES = 256 * 1024


class Held:
    """Envelopes by address. While there are `HELD_BYTES` of them or more, the link is not read."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[Envelope, int]]] = {}
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._queues)

    def waits_for(self, address: str) -> bool:
        """Whether something is held for `address`, so that what follows must wait as well."""
        return address in self._queues

    def is_too_much(self) -> bool:
        """Whether nothing more should be read."""
        return self._bytes >= HELD_BYTES

    def add(self, envelope: Envelope, size: int) -> None:
        """Hold it, behind what is held for the same address; `size` is what it was on the wire."""
        self._queues.setdefault(envelope.to, deque()).append((envelope, size))
        self._bytes += size

    def take(self, accepts: Callable[[str], bool]) -> Iterator[Envelope]:
        """Let go of what can be taken now; `accepts(address)` is asked before each."""
        for address, queue in list(self._queues.items()):
            while queue and accepts(address):
                envelope, size = queue.popleft()
                self._bytes -= size
                if not queue:
                    del self._queues[address]
                yield envelope

    def __repr__(self) -> str:
        return f"Held({self._bytes} bytes for {', '.join(sorted(self._queues))})"
