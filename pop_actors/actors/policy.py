"""How a supervisor treats its children: strategy, restart intensity, auto-shutdown, limits. Only values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

from pop_actors.actors.child import ChildSpec
from pop_actors.actors.exits import ReasonKind


class Strategy(StrEnum):
    """Who is restarted when a child is to be restarted; the plain strings do as well.

    one_for_one: the child. one_for_all: all children. rest_for_one: the child and those after it in start order.
    """

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class AutoShutdown(StrEnum):
    """Which significant children end their supervisor when they end by themselves; the plain strings do as well.

    never: none, and none may be there. any_significant: the first of them. all_significant: the last of them.
    """

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a supervisor treats its children; times in seconds. ValueError where it makes no sense.

    More than `max_restarts` in `period_seconds` are too many: the supervisor stops all children and exits, or, with
    `intensity_scope="child"`, gives up on that child alone. Exits for one of `free_reasons` cost nothing. A dynamic
    supervisor gets its children at run time (`max_children` of them, None: any number), stops them all at once, and
    forgets each one that is gone for good. A child that has not beaten for `heartbeat_deadline`, looked at every
    `heartbeat_seconds`, is hung.
    """

    strategy: Strategy | Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one"
    max_restarts: int = 3
    period_seconds: float = 60.0
    intensity_scope: Literal["supervisor", "child"] = "supervisor"
    auto_shutdown: AutoShutdown | Literal["never", "any_significant", "all_significant"] = "never"
    dynamic: bool = False
    max_children: int | None = None
    heartbeat_seconds: float = 5.0
    heartbeat_deadline: float = 30.0
    free_reasons: frozenset[ReasonKind] = field(default_factory=lambda: frozenset({"timeout"}))

    def __post_init__(self) -> None:
        _one_of("strategy", self.strategy, {*Strategy})
        _one_of("auto_shutdown", self.auto_shutdown, {*AutoShutdown})
        _one_of("intensity_scope", self.intensity_scope, {"supervisor", "child"})
        _count("max_restarts", self.max_restarts)
        if self.max_children is not None:
            _count("max_children", self.max_children)
        for name in ("period_seconds", "heartbeat_seconds", "heartbeat_deadline"):
            _seconds(name, getattr(self, name))
        for reason in self.free_reasons:
            _one_of("free_reasons", reason, set(get_args(ReasonKind)))
        if self.strategy != "one_for_one" and (self.dynamic or self.intensity_scope == "child"):
            raise ValueError(f"{self.strategy} restarts children together; dynamic and intensity_scope=child do not")
        if self.dynamic and self.auto_shutdown != "never":
            raise ValueError(f"auto_shutdown is never where children are dynamic, not {self.auto_shutdown}")

    def check(self, spec: ChildSpec) -> None:
        """TypeError where it is no child, ValueError where it makes no sense under this policy."""
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"a child is described by a ChildSpec(id, start, …), not {spec!r}")
        if spec.significant and self.auto_shutdown == "never":
            raise ValueError(f"child {spec.id}: significant means nothing where auto_shutdown is never")


def check_child_specs(specs: Iterable[ChildSpec], policy: Policy | None = None) -> None:
    """ValueError where two specs have the same id, or one is at odds with the policy; TypeError where one is none."""
    if isinstance(specs, ChildSpec):
        raise TypeError(f"a list of ChildSpecs is checked, not one alone: {specs.id}")
    seen: set[str] = set()
    for spec in specs:
        (policy or Policy(auto_shutdown="any_significant")).check(spec)
        if spec.id in seen:
            raise ValueError(f"two children are called {spec.id}; ids are unique among siblings")
        seen.add(spec.id)


def _one_of(name: str, value: str, allowed: set[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"a policy's {name} is one of {', '.join(sorted(allowed))}, not {value!r}")


def _count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a policy's {name} is a whole number from 0 on, not {value!r}")


def _seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"a policy's {name} is a number of seconds above 0, not {value!r}")
