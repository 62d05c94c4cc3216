"""How many tokens a request will use, guessed before it is sent so that they can be reserved."""

from __future__ import annotations

from typing import NamedTuple


class Tokens(NamedTuple):
    """Tokens of one request: of its prompt, and of its answer."""

    input: float
    output: float

    @property
    def total(self) -> float:
        return self.input + self.output


class TokenGuess:
    """Learned from what earlier requests to the same model used.

    It follows a higher figure at once and a lower one slowly, so it settles at the upper end of what is seen. Guessing
    too high costs nothing but places: what was reserved in excess is given back when the request ends.
    """

    BYTES_PER_TOKEN = 4.0
    FIRST_OUTPUT = 4096.0

    def __init__(self) -> None:
        self._per_byte = 1 / self.BYTES_PER_TOKEN
        self._output = self.FIRST_OUTPUT

    def input(self, size: int) -> float:
        """Tokens of a prompt of `size` bytes."""
        return size * self._per_byte

    def tokens(self, size: int, max_tokens: int | None) -> Tokens:
        """Tokens of a prompt of `size` bytes and of its answer."""
        return Tokens(self.input(size), self._output if max_tokens is None else min(self._output, max_tokens))

    def total(self, size: int, max_tokens: int | None) -> float:
        """Tokens of prompt and answer together."""
        return self.tokens(size, max_tokens).total

    def learn(self, size: int, input_tokens: int, output_tokens: int) -> None:
        """What a request of `size` bytes really used."""
        if size > 0 and input_tokens > 0:
            self._per_byte = _follow(self._per_byte, input_tokens / size)
        self._output = _follow(self._output, float(output_tokens))


def _follow(figure: float, seen: float) -> float:
    return seen if seen > figure else figure + (seen - figure) * 0.1
