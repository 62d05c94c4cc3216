"""The keys of one provider and which of them may be used now. Pure: the caller says what time it is.

A key stands down for a model when the provider refuses it there, and takes its turn again after a while. It does so for
one model only, because quotas and permissions are given per model, and because one task's odd model must not take a key
from everybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

FIRST_REST_SECONDS = 60.0
LONGEST_REST_SECONDS = 900.0
LONGEST_WISH_SECONDS = 86_400.0
MOST_RESTS = 1000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`name` says where it was read, and is what people are shown: a variable, a credential or a file."""

    name: str
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class ProviderKeys:
    """The keys of one provider in the order of their use. `missing`: where one was looked for in vain, and why."""

    keys: tuple[ApiKey, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class Rest:
    """A key that stands down for a model. `until`: when it is tried again; `trying`: a request does so now."""

    code: str
    message: str
    until: float
    seconds: float
    trying: bool = False


class KeyRing:
    """Keys in the order they are to be used, known by their place in it.

    The first that stands is used until it is refused. One whose rest is over is tried with one request at a time while
    another stands, so that a key which is still exhausted costs nobody but that request.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._rests: dict[tuple[int, str], Rest] = {}

    def pick(self, model: str, now: float) -> int | None:
        """The key for a request, or None while all stand down. It is told of by one of the three below."""
        on_trial: int | None = None
        for place in range(len(self.names)):
            rest = self._rests.get((place, model))
            if rest is None:
                return place
            if rest.until > now:
                continue
            if not rest.trying:
                rest.trying = True
                return place
            on_trial = place if on_trial is None else on_trial
        return on_trial

    def worked(self, place: int, model: str, now: float) -> None:
        """A request with that key was answered: it stands, unless it was refused after that request had begun."""
        rest = self._rests.get((place, model))
        if rest is not None and rest.until <= now:
            del self._rests[place, model]

    def refused(
        self, place: int, model: str, code: str, message: str, now: float, wish: float | None = None
    ) -> float | None:
        """The key itself was refused: for how many seconds it stands down now, None where it did already.

        `wish` (s): when the provider says it may be tried again. Else a minute, and twice as long each time after.
        """
        known = self._rests.get((place, model))
        if known is not None and known.until > now:
            return None  # one of several requests that were on their way with it
        if known is None and len(self._rests) >= MOST_RESTS:
            del self._rests[min(self._rests, key=lambda rested: self._rests[rested].until)]
        seconds = FIRST_REST_SECONDS if known is None else min(known.seconds * 2, LONGEST_REST_SECONDS)
        lasting = seconds if wish is None else min(max(wish, FIRST_REST_SECONDS), LONGEST_WISH_SECONDS)
        self._rests[place, model] = Rest(code, message, now + lasting, seconds)
        return lasting

    def untold(self, place: int, model: str) -> None:
        """The request ended without a word on its key: a timeout, a full server, a bad prompt."""
        rest = self._rests.get((place, model))
        if rest is not None:
            rest.trying = False

    def restore(self) -> None:
        """Use every key again, at once."""
        self._rests.clear()

    def resting(self, model: str, now: float) -> dict[int, Rest]:
        """By place: the keys that stand down for that model."""
        rests = {place: self._rests.get((place, model)) for place in range(len(self.names))}
        return {place: rest for place, rest in rests.items() if rest is not None and rest.until > now}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)}; {len(self._rests)} rests)"
