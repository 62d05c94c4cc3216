"""The supervision machine under random children, deaths, commands and clocks: what holds whatever happens."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from supervision_world import CRASH, World, spec

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import (
    NORMAL,
    SHUTDOWN,
    Beat,
    ChildNotice,
    ChildSpec,
    Exited,
    ExitReason,
    Started,
    StartFailed,
)
from pop_actors.actors.restart_budget import Backoff

MAX_RESTARTS = 3
PERIOD = 20.0

picks = st.integers(min_value=0, max_value=20)
reasons = st.sampled_from([NORMAL, SHUTDOWN, CRASH, ExitReason("signal", "SIGKILL"), ExitReason("timeout")])
children = st.lists(
    st.fixed_dictionaries(
        {
            "restart": st.sampled_from(["permanent", "transient", "temporary"]),
            "kind": st.sampled_from(["thread", "process", "supervisor"]),
            "shutdown": st.sampled_from([None, 0.0, 2.0, "infinity"]),
            "backoff": st.sampled_from([None, Backoff(1.0, 8.0, reset_after=10.0)]),
            "significant": st.booleans(),
        }
    ),
    min_size=0,
    max_size=5,
)


class Families(RuleBasedStateMachine):
    """Children start, stop and die when a rule says so, and not before."""

    @initialize(
        made=children,
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        is_dynamic=st.booleans(),
        has_own_budgets=st.booleans(),
        auto_shutdown=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
        is_up=st.sampled_from([True, True, False]),
    )
    def found(
        self,
        made: list[dict],
        strategy: str,
        is_dynamic: bool,
        has_own_budgets: bool,
        auto_shutdown: str,
        is_up: bool,
    ) -> None:
        alone = is_dynamic or has_own_budgets
        auto_shutdown = "never" if is_dynamic else auto_shutdown
        self.knows_significance = auto_shutdown != "never"
        self.has_collapsed = False
        self.world = World(
            *(self.spec(number, more) for number, more in enumerate(made)),
            auto_shutdown=auto_shutdown,
            jitter=0.5,
            strategy="one_for_one" if alone else strategy,
            dynamic=is_dynamic,
            intensity_scope="child" if has_own_budgets else "supervisor",
            max_restarts=MAX_RESTARTS,
            period_seconds=PERIOD,
        )
        everybody = {f"c{number}" for number in range(12)}
        self.world.slow_starts = self.world.deaf = everybody
        self.callers: dict[int, m.Command] = {}
        self.charges: dict[str, list[float]] = {}
        self.made = len(made)
        self.spawned: int | None = None
        self.seen = 0
        self.world.begin()
        if is_up:
            self.all_get_ready(0)

    def spec(self, number: int, more: dict) -> ChildSpec:
        may = self.knows_significance and more["restart"] != "permanent"
        return spec(f"c{number}", **{**more, "significant": may and more["significant"]})

    def pick_one(self, child_id: str, state: str) -> bool:
        child = self.world.machine.children.get(child_id)
        return child is not None and child.state == state

    def pick(self, number: int, *states: str) -> str | None:
        there = [child_id for child_id, child in self.world.machine.children.items() if child.state in states]
        return there[number % len(there)] if there else None

    @rule(number=picks)
    def one_gets_ready(self, number: int) -> None:
        child_id = self.pick(number, "starting")
        if child_id is not None:
            self.world.notice(child_id, Started())

    @rule(number=picks)
    def all_get_ready(self, number: int) -> None:
        while (child_id := self.pick(number, "starting")) is not None:
            self.world.notice(child_id, Started())

    @rule(number=picks)
    def one_fails_to_start(self, number: int) -> None:
        child_id = self.pick(number, "starting")
        if child_id is not None:
            self.die(child_id, StartFailed(CRASH))

    @rule(number=picks)
    def one_has_nothing_to_do(self, number: int) -> None:
        child_id = self.pick(number, "starting")
        if child_id is not None:
            self.world.notice(child_id, StartFailed(NORMAL))

    @rule(number=picks, reason=reasons)
    def one_dies(self, number: int, reason: ExitReason) -> None:
        child_id = self.pick(number, "running", "starting")
        if child_id is not None:
            self.die(child_id, Exited(reason))

    @rule(number=picks, times=st.integers(min_value=2, max_value=6))
    def one_dies_again_and_again(self, number: int, times: int) -> None:
        for _ in range(times):
            self.all_get_ready(0)
            self.one_dies(number, CRASH)

    @rule(number=picks, notice=st.sampled_from([Started(), Beat(), StartFailed(CRASH), Exited(CRASH)]))
    def a_dead_one_speaks(self, number: int, notice: ChildNotice) -> None:
        dead = [effect.incarnation for effect in self.world.of(m.Gone)]
        if dead:
            before = len(self.world.seen)
            self.world.send(m.Noticed(dead[number % len(dead)], notice))
            assert self.world.seen[before:] == []

    @rule(number=picks)
    def one_stops_as_asked(self, number: int) -> None:
        child_id = self.pick(number, "stopping")
        if child_id is not None:
            self.world.crash(child_id, SHUTDOWN)

    @rule(number=picks)
    def one_beats(self, number: int) -> None:
        child_id = self.pick(number, "running")
        if child_id is not None:
            self.world.notice(child_id, Beat())

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def hearts_are_looked_at(self) -> None:
        self.world.send(m.Tick())

    @precondition(lambda self: self.made < 9)
    @rule(more=children.filter(bool))
    def one_is_added(self, more: list[dict]) -> None:
        self.ask(m.StartChild(self.spec(self.made, more[0])))
        self.made += 1

    @rule(number=picks, kind=st.sampled_from([m.TerminateChild, m.DeleteChild, m.RestartChild]))
    def one_is_handled(self, number: int, kind: type) -> None:
        self.ask(kind(f"c{number}"))

    @rule(number=picks)
    def one_is_restarted_by_force(self, number: int) -> None:
        self.ask(m.RestartChild(f"c{number}", force=True))

    @precondition(lambda self: self.seen > 20)
    @rule()
    def it_is_stopped(self) -> None:
        self.world.send(m.Shutdown())

    @precondition(lambda self: self.seen > 30)
    @rule()
    def it_collapses(self) -> None:
        self.has_collapsed = True
        self.world.send(m.Collapse(CRASH))

    def ask(self, command: m.Command) -> None:
        if self.world.machine.phase != "ended":
            self.callers[self.world.ask(command)] = command

    def die(self, child_id: str, notice: Exited | StartFailed) -> None:
        """A death nobody asked for; note when it was charged."""
        machine = self.world.machine
        own = machine.policy.intensity_scope == "child"
        is_free = notice.reason.kind == "timeout" or machine.children[child_id].will_stop
        before = len(self.world.of(m.Gone))
        self.world.notice(child_id, notice)
        (gone,) = self.world.of(m.Gone)[before : before + 1]
        if gone.will_restart and not is_free:
            self.charges.setdefault(child_id if own else "all", []).append(self.world.now)

    @invariant()
    def no_child_lives_twice(self) -> None:
        """At most one incarnation of an id is alive."""
        alive = self.world.alive_ids()
        assert len(alive) == len(set(alive))

    @invariant()
    def the_machine_and_the_world_agree_on_who_is_alive(self) -> None:
        """No death is overlooked, and nobody is counted who is gone."""
        known = self.world.machine.children.values()
        alive = {entry.incarnation for entry in self.world.alive.values()}
        assert alive == {child.incarnation for child in known if child.incarnation is not None}

    @invariant()
    def restarts_stay_within_the_intensity(self) -> None:
        """However the deaths fall, a window never holds more restarts than it may."""
        for times in self.charges.values():
            for first in times:
                assert sum(first <= other < first + PERIOD for other in times) <= MAX_RESTARTS

    @invariant()
    def every_death_is_told_once(self) -> None:
        """As many `Gone` as incarnations that are no more, each its own."""
        spawned = [effect.incarnation for effect in self.world.of(m.Spawn)]
        gone = [effect.incarnation for effect in self.world.of(m.Gone)]
        assert len(gone) == len(set(gone))
        assert set(spawned) - set(gone) == set(self.world.alive)

    @invariant()
    def stops_go_backwards_and_starts_forwards(self) -> None:
        """A static child is launched after its elders and asked to stop before them, wherever they move together."""
        new, self.seen = self.world.seen[self.seen :], len(self.world.seen)
        machine = self.world.machine
        if machine.phase != "stopping" or machine.policy.dynamic or self.has_collapsed:
            return
        order = list(machine.children)
        asked = [child_id for child_id in order if machine.children[child_id].state in {"stopping", "killing"}]
        running = [child_id for child_id in order if machine.children[child_id].state in {"running", "starting"}]
        in_turn = [effect for effect in new if isinstance(effect, m.AskToStop)]
        if in_turn and running and asked:
            assert order.index(asked[-1]) > order.index(running[-1])

    @invariant()
    def nobody_is_started_by_a_supervisor_that_stops(self) -> None:
        """From the first sign of its end on."""
        if self.world.machine.phase in {"stopping", "ended"}:
            if self.spawned is None:
                self.spawned = len(self.world.of(m.Spawn))
            assert len(self.world.of(m.Spawn)) == self.spawned

    @invariant()
    def what_is_timed_is_what_is_waited_for(self) -> None:
        """No timer outlives its reason, and none is set that nobody knows."""
        assert self.world.timers() == set(self.world.machine._life._timers)
        waited_for = {child.timer for child in self.world.machine.children.values()}
        waited_for |= {child.wave.timer for child in self.world.machine.children.values() if child.wave is not None}
        assert self.world.timers() <= waited_for

    @invariant()
    def nothing_is_done_after_the_end(self) -> None:
        """`Finished` is the last effect, and nobody is alive then."""
        if self.world.end is not None:
            assert isinstance(self.world.seen[-1], m.Finished)
            assert self.world.alive_ids() == []
            assert self.world.timers() == set()

    def teardown(self) -> None:
        """From wherever it is, a stop comes to its end, whether children obey or have to be killed or left behind, and
        nobody who asked is left without an answer."""
        if not hasattr(self, "world"):
            return
        everybody = self.world.deaf
        is_obstinate = len(self.world.seen) % 2 == 0
        self.world.deaf = self.world.immortal = everybody if is_obstinate else set()
        self.world.send(m.Shutdown())
        for _ in everybody:
            self.world.advance(15.0)
            for child_id in [child.spec.id for child in self.world.machine.children.values()]:
                is_patient = self.world.machine.children[child_id].spec.grace is None
                if self.pick_one(child_id, "stopping") and (is_patient or not is_obstinate):
                    self.world.crash(child_id, SHUTDOWN)
        assert self.world.end is not None
        assert self.world.alive_ids() == []
        assert [command for caller, command in self.callers.items() if self.world.outcome(caller) is None] == []


TestFamilies = Families.TestCase
TestFamilies.settings = settings(max_examples=120, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow])
