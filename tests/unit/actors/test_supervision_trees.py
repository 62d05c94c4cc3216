"""Supervisors of supervisors, as machines wired to each other under one clock: what holds for a tree as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from supervision_world import CRASH, Entry, World, spec

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import NORMAL, ChildNotice, Exited, ExitReason, Started, StartFailed

picks = st.integers(min_value=0, max_value=30)
strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
leaves = st.fixed_dictionaries(
    {
        "restart": st.sampled_from(["permanent", "transient", "temporary"]),
        "kind": st.sampled_from(["thread", "process"]),
    }
)
nests = st.recursive(
    leaves,
    lambda below: st.fixed_dictionaries(
        {
            "strategy": strategies,
            "restart": st.sampled_from(["permanent", "transient", "temporary"]),
            "max_restarts": st.integers(min_value=0, max_value=3),
            "shutdown": st.sampled_from(["infinity", 2.0, "brutal_kill"]),
            "children": st.lists(below, min_size=1, max_size=3),
        }
    ),
    max_leaves=8,
)
forests = st.fixed_dictionaries(
    {
        "strategy": strategies,
        "max_restarts": st.integers(min_value=0, max_value=3),
        "children": st.lists(nests, min_size=1, max_size=3),
    }
)


class Nest(World):
    """A world whose children of kind supervisor are worlds themselves."""

    def __init__(self, plan: dict[str, Any], parent: Nest | None = None, incarnation: int = 0) -> None:
        self._plans = {f"c{number}": below for number, below in enumerate(plan["children"])}
        specs = [spec(child_id, **_spec_of(below)) for child_id, below in self._plans.items()]
        super().__init__(*specs, strategy=plan["strategy"], max_restarts=plan["max_restarts"])
        self.nested: dict[int, Nest] = {}
        self._parent = parent
        self._incarnation = incarnation
        self._events: deque[m.Event] = deque()
        self._is_busy = False
        self._has_said: list[type] = []
        if parent is not None:
            self.now = parent.now

    def send(self, event: m.Event) -> None:
        """As any actor: one event after the other, whoever sends it while one is at work."""
        self._events.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        while self._events:
            super().send(self._events.popleft())
        self._is_busy = False
        self._tell_parent()

    def hear(self, incarnation: int, notice: ChildNotice) -> None:
        if not isinstance(notice, Started):
            self.alive.pop(incarnation, None)
            self.nested.pop(incarnation, None)
        self.send(m.Noticed(incarnation, notice))

    def _tell_parent(self) -> None:
        if self._parent is None:
            return
        if self.of(m.Up) and not self._has_said:
            self._has_said.append(Started)
            self._parent.hear(self._incarnation, Started())
        if self.end is not None and Exited not in self._has_said:
            notice = Exited(self.end) if self._has_said else StartFailed(self.end)
            self._has_said.append(Exited)
            self._parent.hear(self._incarnation, notice)

    def _spawn(self, effect: m.Spawn) -> None:
        if effect.spec.kind != "supervisor":
            super()._spawn(effect)
            return
        self.alive[effect.incarnation] = Entry(effect.spec, effect.epoch, effect.incarnation)
        below = self.nested[effect.incarnation] = Nest(self._plans[effect.spec.id], self, effect.incarnation)
        below.send(m.Begin())

    def _ask_to_stop(self, entry: Entry) -> None:
        if entry.spec.kind == "supervisor":
            self.nested[entry.incarnation].send(m.Shutdown())
        else:
            super()._ask_to_stop(entry)

    def _kill(self, entry: Entry) -> None:
        if entry.spec.kind == "supervisor":
            self.nested[entry.incarnation].send(m.Collapse(ExitReason("signal", "killed")))
        else:
            super()._kill(entry)

    def all(self) -> Iterator[Nest]:
        """This one and all below, as they are now."""
        yield self
        for below in list(self.nested.values()):
            yield from below.all()

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all of them together, timer by timer."""
        end = self.now + seconds
        while True:
            due = [(when, number, nest) for nest in self.all() for number, when in nest._timers.items() if when <= end]
            if not due:
                break
            when, number, nest = min(due, key=lambda entry: entry[:2])
            self._set_clocks(max(self.now, when))
            del nest._timers[number]
            nest.send(m.Due(number))
        self._set_clocks(end)

    def _set_clocks(self, now: float) -> None:
        for nest in self.all():
            nest.now = now


def _spec_of(plan: dict[str, Any]) -> dict[str, Any]:
    if "children" not in plan:
        return plan
    return {"kind": "supervisor", "restart": plan["restart"], "shutdown": plan["shutdown"]}


class Trees(RuleBasedStateMachine):
    """Leaves start at once, and die or are slow to stop when a rule says so."""

    @initialize(plan=forests)
    def plant(self, plan: dict[str, Any]) -> None:
        self.root = Nest(plan)
        self.root.begin()

    def leaves(self) -> list[tuple[Nest, Entry]]:
        found = [(nest, entry) for nest in self.root.all() for entry in nest.alive.values()]
        return [(nest, entry) for nest, entry in found if entry.spec.kind != "supervisor"]

    @rule(number=picks, reason=st.sampled_from([NORMAL, CRASH, CRASH, ExitReason("signal", "SIGKILL")]))
    def a_leaf_dies(self, number: int, reason: ExitReason) -> None:
        leaves = self.leaves()
        if leaves:
            nest, entry = leaves[number % len(leaves)]
            nest.hear(entry.incarnation, Exited(reason))

    @rule(number=picks)
    def a_nest_turns_deaf(self, number: int) -> None:
        nests = list(self.root.all())
        nests[number % len(nests)].deaf = {"c0", "c1", "c2"}

    @rule(number=picks)
    def a_supervisor_fails_itself(self, number: int) -> None:
        below = [nest for nest in self.root.all() if nest is not self.root]
        if below:
            below[number % len(below)].send(m.Collapse(CRASH))

    @rule(number=picks, force=st.booleans())
    def one_is_restarted_by_hand(self, number: int, force: bool) -> None:
        nests = list(self.root.all())
        nest = nests[number % len(nests)]
        if nest.machine.phase != "ended":
            nest.ask(m.RestartChild(f"c{number % 3}", force))

    @rule(seconds=st.sampled_from([0.5, 3.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.root.pass_time(seconds)

    @invariant()
    def each_level_knows_who_is_alive_below(self) -> None:
        """A supervisor is alive for its parent exactly until it has ended, and nobody lives below one that has."""
        for nest in self.root.all():
            for entry in nest.alive.values():
                if entry.spec.kind == "supervisor":
                    assert nest.nested[entry.incarnation].machine.phase != "ended"
            if nest.machine.phase == "ended":
                assert not nest.alive
            assert set(nest.nested) <= set(nest.alive)

    @invariant()
    def nobody_lives_twice(self) -> None:
        """Neither side by side nor below two incarnations of one supervisor."""
        for nest in self.root.all():
            ids = nest.alive_ids()
            assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        """The whole tree comes to its end from above, each level in its time."""
        if not hasattr(self, "root"):
            return
        self.root.send(m.Shutdown())
        for _ in range(20):
            self.root.pass_time(60.0)
        assert self.root.end is not None
        assert self.leaves() == []
        assert self.root.timers() == set()


TestTrees = Trees.TestCase
TestTrees.settings = settings(max_examples=60, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow])
