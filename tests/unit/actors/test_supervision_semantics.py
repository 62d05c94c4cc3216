"""What Erlang's supervisors have taught the world to expect, case by case, on the machine alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from supervision_world import CRASH, World, never_launched, spec

from pop_actors.actors import Actor, supervisor
from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import (
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    Exited,
    ExitReason,
    KindedStarter,
    Restart,
    Started,
    StartFailed,
)
from pop_actors.actors.policy import AutoShutdown, Policy, Strategy, check_child_specs
from pop_actors.actors.restart_budget import Backoff

KILLED = ExitReason("signal", "SIGKILL")
TraceFunction = Callable[[FrameType, str, object], Any]
HUNG = ExitReason("hung", "no heartbeat")


def up(*specs: ChildSpec, **policy: Any) -> World:
    world = World(*specs, **policy)
    world.begin()
    world.take_words()
    return world


class TestAChildWithNothingToDo:
    """Its start comes to its end without a child: no failure, and no child."""

    def test_the_others_start_all_the_same(self) -> None:
        """The supervisor is up, and the spec is kept for a later try."""
        world = World(spec("a"), spec("idle"), spec("c"))
        world.idle = {"idle"}
        world.begin()
        assert len(world.of(m.Up)) == 1
        assert world.alive_ids() == ["a", "c"]
        assert world.state("idle") == "stopped"
        assert world.outcome(world.ask(m.CountChildren())) == (
            "ok",
            {"specs": 3, "active": 2, "supervisors": 0, "workers": 3},
        )

    @pytest.mark.parametrize(
        ("restart", "dynamic", "is_kept"),
        [
            ("permanent", False, True),
            ("transient", False, True),
            ("temporary", False, False),
            ("permanent", True, False),
            ("temporary", True, False),
        ],
    )
    def test_who_asked_for_it_hears_none_and_the_spec_is_kept_where_it_can_be_used_again(
        self, restart: str, dynamic: bool, is_kept: bool
    ) -> None:
        """A temporary child is never started again, and a dynamic supervisor keeps nobody who is not there."""
        world = up(dynamic=dynamic)
        world.idle = {"idle"}
        assert world.outcome(world.ask(m.StartChild(spec("idle", restart=restart)))) == ("ok", None)
        assert ("idle" in world.machine.children) is is_kept
        assert [effect.reason for effect in world.of(m.Gone)] == [NORMAL]
        world.send(m.Shutdown())
        assert world.end == SHUTDOWN

    def test_a_child_that_comes_back_to_find_nothing_to_do_is_at_rest(self) -> None:
        """One restart was tried, and that is all it costs."""
        world = up(spec("a"), max_restarts=1)
        world.idle = {"a"}
        world.crash("a")
        assert world.state("a") == "stopped"
        world.idle = set()
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("ok", 3)


class TestSpecs:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"id": ""}, "id is a string"),
            ({"id": 7}, "id is a string"),
            ({"start": "module.function"}, "starter such as thread"),
            ({"restart": "prmanent"}, "permanent, transient or temporary, not 'prmanent'"),
            ({"kind": "wrker"}, "thread, process or supervisor, not 'wrker'"),
            ({"shutdown": -10}, "shutdown is seconds"),
            ({"shutdown": "never"}, "shutdown is seconds"),
            ({"shutdown": math.nan}, "shutdown is seconds"),
            ({"shutdown": True}, "shutdown is seconds"),
            ({"shutdown": "brutal_kill"}, "a thread cannot be killed"),
            ({"start": Actor}, r"write thread\(Actor, …\)"),
            ({"start": KindedStarter("process", never_launched), "kind": "thread"}, "launches a process"),
            ({"significant": True}, "permanent child cannot be significant"),
            ({"start_seconds": 0}, "start_seconds is a number of seconds above 0"),
        ],
    )
    def test_a_spec_that_makes_no_sense_says_what_would(self, wrong: dict[str, Any], says: str) -> None:
        """When it is made, not when the child fails."""
        with pytest.raises((TypeError, ValueError), match=says):
            ChildSpec(**{"id": "x", "start": never_launched, **wrong})

    def test_the_kind_of_a_child_is_what_its_starter_says(self) -> None:
        """Who writes the spec can leave it out, and so cannot get it wrong."""
        assert spec("x").kind == "thread"
        assert ChildSpec("x", KindedStarter("process", never_launched)).kind == "process"
        assert ChildSpec("x", supervisor()).kind == "supervisor"
        assert ChildSpec("x", never_launched, kind="process").kind == "process"

    @pytest.mark.parametrize(
        "right",
        [
            {"kind": "supervisor", "shutdown": "infinity"},
            {"kind": "supervisor", "shutdown": 1.0},
            {"kind": "supervisor", "shutdown": "brutal_kill"},
            {"kind": "process", "shutdown": "brutal_kill", "restart": "temporary"},
            {"shutdown": "infinity", "restart": Restart.TRANSIENT},
            {"shutdown": 0},
            {"shutdown": math.inf},
        ],
    )
    def test_a_spec_that_makes_sense_is_taken(self, right: dict[str, Any]) -> None:
        """Also infinity for a worker: who writes it knows that it ends."""
        assert ChildSpec("x", never_launched, **right).id == "x"

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"strategy": "none_for_one"}, "strategy is one of one_for_all, one_for_one, rest_for_one"),
            ({"max_restarts": -1}, "max_restarts is a whole number"),
            ({"max_restarts": math.inf}, "max_restarts is a whole number"),
            ({"period_seconds": 0}, "period_seconds is a number of seconds above 0"),
            ({"period_seconds": math.inf}, "period_seconds"),
            ({"max_children": -1}, "max_children"),
            ({"auto_shutdown": "sometimes"}, "auto_shutdown"),
            ({"intensity_scope": "family"}, "intensity_scope"),
            ({"heartbeat_seconds": 0}, "heartbeat_seconds"),
            ({"free_reasons": frozenset({"boredom"})}, "free_reasons"),
            ({"strategy": "one_for_all", "dynamic": True}, "restarts children together"),
        ],
    )
    def test_a_policy_that_makes_no_sense_says_what_would(self, wrong: dict[str, Any], says: str) -> None:
        """The key, the value, and what is allowed."""
        with pytest.raises(ValueError, match=says):
            Policy(**wrong)

    @pytest.mark.parametrize("wrong", [{"minimum": 2.0, "maximum": 1.0}, {"minimum": -1.0}, {"jitter": -0.1}])
    def test_a_backoff_that_makes_no_sense_is_refused(self, wrong: dict[str, float]) -> None:
        """A pause is never negative."""
        with pytest.raises(ValueError, match="backoff"):
            Backoff(**wrong)

    def test_words_and_members_mean_the_same(self) -> None:
        """Plain strings are as good as the enums."""
        assert Policy(strategy="rest_for_one") == Policy(strategy=Strategy.REST_FOR_ONE)
        assert Policy(auto_shutdown="any_significant") == Policy(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
        assert spec("x", restart="transient") == spec("x", restart=Restart.TRANSIENT)

    def test_specs_can_be_checked_before_there_is_a_supervisor(self) -> None:
        """With the policy they are meant for, or without one."""
        check_child_specs([spec("a"), spec("b", restart="temporary", significant=True)])
        with pytest.raises(ValueError, match="two children are called a"):
            check_child_specs([spec("a"), spec("a", kind="process")])
        with pytest.raises(ValueError, match="auto_shutdown is never"):
            check_child_specs([spec("b", restart="temporary", significant=True)], Policy())


class TestChildrenByHand:
    def test_the_whole_life_of_a_child(self) -> None:
        """Every command, in every state it can meet, as one story."""
        world = up(spec("a"))
        ask = world.ask

        def told(command: m.Command) -> object:
            return world.outcome(ask(command))

        assert told(m.StartChild(spec("a"))) == ("no", "already_started")
        assert told(m.DeleteChild("a")) == ("no", "running")
        assert told(m.RestartChild("a")) == ("no", "running")
        assert told(m.TerminateChild("a")) == ("ok", None)
        assert world.state("a") == "stopped"
        assert told(m.TerminateChild("a")) == ("ok", None)
        assert told(m.StartChild(spec("a"))) == ("no", "already_present")
        assert told(m.RestartChild("a")) == ("ok", 2)
        assert told(m.TerminateChild("a")) == ("ok", None)
        assert told(m.DeleteChild("a")) == ("ok", None)
        assert told(m.RestartChild("a")) == ("no", "not_found")
        assert told(m.WhichChildren()) == ("ok", [])
        assert told(m.StartChild(spec("a"))) == ("ok", 1)
        assert world.alive_ids() == ["a"]

    def test_the_spec_of_a_child_can_be_read(self) -> None:
        """As it was given, with its defaults."""
        world = up(spec("a", restart="transient"))
        given = world.outcome(world.ask(m.GetChildSpec("a")))
        assert given == ("ok", spec("a", restart="transient"))
        assert world.outcome(world.ask(m.GetChildSpec("b"))) == ("no", "not_found")

    def test_a_stopped_child_that_does_not_start_stays_stopped_and_nobody_pays(self) -> None:
        """Who asked hears why; trying again is theirs. There is no intensity left, and none is needed."""
        world = up(spec("a"), max_restarts=0)
        world.ask(m.TerminateChild("a"))
        world.failing_starts = {"a"}
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("no", "start_failed")
        assert world.state("a") == "stopped"
        assert world.end is None
        world.failing_starts = set()
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("ok", 3)

    def test_what_was_asked_for_once_is_not_remembered_for_ever(self) -> None:
        """Started by hand to find nothing to do, and later with its group: then a failed start is made up for."""
        world = up(spec("a"), spec("b"), strategy="one_for_all", max_restarts=9)
        world.ask(m.TerminateChild("b"))
        world.idle = {"b"}
        assert world.outcome(world.ask(m.RestartChild("b"))) == ("ok", None)
        world.idle, world.slow_starts = set(), {"b"}
        world.crash("a")
        world.notice("b", StartFailed(CRASH))
        world.notice("b", Started())
        assert world.alive_ids() == ["a", "b"]

    def test_a_temporary_child_is_not_restarted_by_hand_either(self) -> None:
        """It is not stopped for the sake of a restart that never comes."""
        world = up(spec("t", restart="temporary"))
        assert world.outcome(world.ask(m.RestartChild("t", force=True))) == ("no", "temporary")
        assert world.alive_ids() == ["t"]

    def test_a_child_added_by_hand_is_the_last_in_order(self) -> None:
        """It stops first, and goes with those before it."""
        world = up(spec("a"), spec("b"), strategy="rest_for_one")
        world.ask(m.StartChild(spec("c")))
        world.crash("a")
        assert world.take_words() == "+c -c -b +a +b +c"

    def test_a_child_that_waits_for_its_turn_at_the_first_start_is_not_there_to_be_handled(self) -> None:
        """It neither is deleted nor starts before its elders; it can be called off."""
        world = World(spec("a"), spec("b"), spec("c"))
        world.slow_starts = {"a"}
        world.begin()
        assert world.state("b") == "waiting"
        assert world.outcome(world.ask(m.DeleteChild("b"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.RestartChild("b"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.StartChild(spec("b")))) == ("no", "already_present")
        assert world.outcome(world.ask(m.TerminateChild("b"))) == ("ok", None)
        world.notice("a", Started())
        assert world.take_words() == "+a +c"
        assert len(world.of(m.Up)) == 1

    def test_a_hung_process_that_is_terminated_before_it_is_dead_stays_down(self) -> None:
        """The last word is the caller's, not the heartbeat's."""
        world = up(spec("p", kind="process"), heartbeat_seconds=5, heartbeat_deadline=30)
        world.immortal = {"p"}
        world.send(m.Tick())
        for _ in range(7):
            world.advance(5.0)
            world.send(m.Tick())
        assert world.take_words() == "!p"
        stopped = world.ask(m.TerminateChild("p"))
        assert world.outcome(stopped) is None
        world.crash("p", KILLED)
        assert world.outcome(stopped) == ("ok", None)
        assert world.state("p") == "stopped"


class TestTheRestartLoop:
    """A child that does not come back is tried again; meanwhile its supervisor answers, and can be stopped."""

    @pytest.fixture
    def world(self) -> World:
        world = up(spec("a"), spec("b"), max_restarts=5)
        world.slow_starts = {"a"}
        world.crash("a")
        world.notice("a", StartFailed(CRASH))
        assert world.take_words() == "+a +a"
        return world

    def test_every_question_is_answered(self, world: World) -> None:
        """It is there and is not there: restarting."""
        assert world.state("a") == "restarting"
        assert world.outcome(world.ask(m.StartChild(spec("a")))) == ("no", "already_present")
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.DeleteChild("a"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.CountChildren())) == (
            "ok",
            {"specs": 2, "active": 1, "supervisors": 0, "workers": 2},
        )

    def test_the_child_can_be_called_off_and_back(self, world: World) -> None:
        """Terminate ends the loop; restart begins anew."""
        assert world.outcome(world.ask(m.TerminateChild("a"))) == ("ok", None)
        assert world.state("a") == "stopped"
        world.slow_starts = set()
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("ok", 4)

    def test_the_supervisor_can_be_stopped(self, world: World) -> None:
        """It does not hang in the loop."""
        world.send(m.Shutdown())
        assert world.end == SHUTDOWN
        assert world.alive_ids() == []

    def test_it_comes_to_its_end_by_itself(self, world: World) -> None:
        """Each failed restart costs one, as a crash does."""
        for _ in range(4):
            assert world.end is None
            world.notice("a", StartFailed(CRASH))
        assert world.end is not None
        assert "child a failed too often (5 restarts are allowed)" in world.end.detail
        assert world.take_words().endswith("-b")

    def test_a_pause_that_is_called_off_leaves_no_timer_behind(self) -> None:
        """Terminate, and forced restart, end the pause and not just what would have come after it."""
        for command in (m.TerminateChild("a"), m.RestartChild("a", force=True)):
            world = up(spec("a", backoff=Backoff(60.0, 60.0)))
            world.crash("a")
            assert len(world.timers()) == 1
            world.ask(command)
            assert world.timers() == set()


class TestGroups:
    @pytest.mark.parametrize(
        ("strategy", "done"),
        [("one_for_one", "+b"), ("one_for_all", "-d -a +a +b +c +d"), ("rest_for_one", "-d +b +c +d")],
    )
    def test_a_stopped_child_comes_back_with_its_group(self, strategy: str, done: str) -> None:
        """A group restart starts the group as it was meant to be; c had been stopped by hand."""
        world = up(spec("a"), spec("b"), spec("c"), spec("d"), strategy=strategy)
        world.ask(m.TerminateChild("c"))
        world.take_words()
        world.crash("b")
        assert world.take_words() == done

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_a_temporary_bystander_is_taken_down_and_forgotten(self, strategy: str) -> None:
        """And so does not use up the intensity by failing to come back."""
        world = up(spec("a"), spec("t", restart="temporary"), strategy=strategy, max_restarts=2)
        world.crash("a", NORMAL)
        assert world.take_words() == "-t +a"
        assert list(world.machine.children) == ["a"]
        assert world.end is None

    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    @pytest.mark.parametrize("restart", ["transient", "temporary"])
    def test_a_child_that_is_not_to_come_back_takes_nobody_down(self, strategy: str, restart: str) -> None:
        """A group is restarted for one that is to be, and for no other."""
        world = up(spec("a"), spec("x", restart=restart), spec("c"), strategy=strategy)
        world.crash("x", NORMAL)
        assert world.take_words() == ""
        assert world.alive_ids() == ["a", "c"]

    def test_one_that_is_back_and_dies_again_begins_the_restart_anew(self) -> None:
        """For a second unit of the intensity: it is a second death."""
        world = up(spec("a"), spec("b"), strategy="one_for_all", max_restarts=2)
        world.slow_starts = {"b"}
        world.crash("a")
        assert world.take_words() == "-b +a +b"
        world.crash("a")
        assert world.take_words() == "-b +a +b"
        world.crash("a")
        assert world.end is not None

    def test_an_elder_that_dies_while_the_rest_is_restarted_takes_it_over(self) -> None:
        """What the first wave had still to do is done by the second, once."""
        world = up(spec("a"), spec("b"), spec("c"), spec("d"), strategy="rest_for_one")
        world.deaf = {"d"}
        world.crash("c")
        assert world.take_words() == "-d"
        world.crash("a")
        assert world.take_words() == ""
        world.crash("d", SHUTDOWN)
        assert world.take_words() == "-b +a +b +c +d"
        assert world.alive_ids() == ["a", "b", "c", "d"]

    def test_a_younger_sibling_that_fails_to_come_back_leaves_the_elders_alone(self) -> None:
        """Rest-for-one goes on from the one that failed, one-for-all from the first of all."""
        for strategy, again in [("rest_for_one", "+c"), ("one_for_all", "-b -a +a +b +c")]:
            world = up(spec("a"), spec("b"), spec("c"), strategy=strategy, max_restarts=9)
            world.slow_starts = {"c"}
            world.crash("a")
            world.take_words()
            world.notice("c", StartFailed(CRASH))
            assert world.take_words() == again

    def test_a_group_pauses_once_and_then_starts_in_order(self) -> None:
        """The pause is that of the child that failed."""
        world = up(spec("a"), spec("b", backoff=Backoff(3.0, 3.0, jitter=0.0)), spec("c"), strategy="one_for_all")
        world.crash("b")
        assert world.take_words() == "-c -a"
        assert [world.state(child) for child in "abc"] == ["restarting"] * 3
        world.advance(3.0)
        assert world.take_words() == "+a +b +c"

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_who_waits_for_a_child_that_is_terminated_stays_down_with_it(self, strategy: str) -> None:
        """It may need that one; whoever asked for it hears so, and anything else of its own goes on."""
        world = up(spec("a"), spec("b"), spec("c"), strategy=strategy, max_restarts=9)
        first = "a" if strategy == "one_for_all" else "b"
        world.slow_starts = {first}
        world.crash("b")
        asker = world.ask(m.RestartChild("c", force=True))
        assert world.outcome(world.ask(m.TerminateChild(first))) == ("ok", None)
        assert world.outcome(asker) == ("no", "terminated")
        down = "abc" if strategy == "one_for_all" else "bc"
        assert [name for name in "abc" if world.state(name) == "stopped"] == list(down)
        assert world.outcome(world.ask(m.RestartChild("c"))) == ("ok", world.row("c")["epoch"])

    def test_a_child_terminated_in_the_middle_of_a_restart_is_left_out_of_it(self) -> None:
        """Nobody waited for it in particular."""
        world = up(spec("a", backoff=Backoff(3.0, 3.0, jitter=0.0)), spec("b"), spec("c"), strategy="rest_for_one")
        world.crash("a")
        world.take_words()
        world.ask(m.TerminateChild("b"))
        world.advance(3.0)
        assert world.take_words() == "+a +c"


class TestAutoShutdown:
    @pytest.mark.parametrize(
        ("restart", "reason", "ends"),
        [
            ("transient", NORMAL, True),
            ("transient", SHUTDOWN, True),
            ("transient", ExitReason("shutdown", "done for today"), True),
            ("transient", CRASH, False),
            ("temporary", NORMAL, True),
            ("temporary", SHUTDOWN, True),
            ("temporary", CRASH, True),
        ],
    )
    @pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
    def test_a_significant_child_that_is_gone_for_good_ends_the_supervisor(
        self, mode: str, restart: str, reason: ExitReason, ends: bool
    ) -> None:
        """A transient one that crashes comes back, and that is not the end."""
        world = up(spec("a"), spec("s", restart=restart, significant=True), auto_shutdown=mode)
        world.crash("s", reason)
        assert (world.end is not None) is ends
        if ends:
            assert world.end is not None
            assert world.end.kind == "shutdown"
            assert world.take_words() == "-a"

    def test_all_of_them_means_the_last_that_is_active(self) -> None:
        """One that is being restarted still is; one that was stopped by hand is not."""
        significant = [spec(name, restart="transient", significant=True) for name in "stu"]
        world = up(*significant, auto_shutdown="all_significant")
        world.ask(m.TerminateChild("u"))
        world.slow_starts = {"s"}
        world.crash("s")
        world.crash("t", NORMAL)
        assert world.end is None
        world.notice("s", Started())
        world.crash("s", NORMAL)
        assert world.end is not None

    @pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
    @pytest.mark.parametrize("restart", ["transient", "temporary"])
    def test_what_its_supervisor_does_to_it_is_no_end(self, mode: str, restart: str) -> None:
        """Neither taken down with its group nor terminated by hand."""
        significant = spec("s", restart=restart, significant=True)
        world = up(spec("a"), significant, auto_shutdown=mode, strategy="one_for_all")
        world.crash("a")
        assert world.end is None
        if restart == "transient":
            world.ask(m.TerminateChild("s"))
            assert world.end is None

    @pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
    def test_a_dynamic_crowd_knows_no_auto_shutdown(self, mode: str) -> None:
        """As OTP's simple_one_for_one: nobody of a crowd stands for all of it."""
        with pytest.raises(ValueError, match="auto_shutdown is never"):
            up(dynamic=True, auto_shutdown=mode)

    def test_significance_is_refused_where_it_means_nothing(self) -> None:
        """Also for a child that is added later."""
        world = up(spec("a"))
        late = spec("s", restart="temporary", significant=True)
        assert world.outcome(world.ask(m.StartChild(late))) == ("no", "bad_spec")


class TestBeingStopped:
    def test_infinity_is_waited_for(self) -> None:
        """Without a timer: in words, as a number, and for a supervisor by default."""
        for patient in (spec("x", shutdown="infinity"), spec("x", shutdown=math.inf), spec("x", kind="supervisor")):
            world = up(patient)
            world.deaf = {"x"}
            world.send(m.Shutdown())
            assert world.next_timer() is None
            world.crash("x", SHUTDOWN)
            assert world.end == SHUTDOWN

    def test_a_nested_supervisor_with_a_limit_is_ended_by_force_after_it(self) -> None:
        """Polite first; what it is made to do then is its own affair."""
        world = up(spec("s", kind="supervisor", shutdown=2.0))
        world.deaf = {"s"}
        world.send(m.Shutdown())
        assert world.take_words() == "-s"
        world.advance(2.0)
        assert world.take_words() == "!s"
        assert world.end == SHUTDOWN

    def test_what_survives_even_that_is_left_behind_in_the_end(self) -> None:
        """A stop has an end whatever happens."""
        world = up(spec("a"), spec("p", kind="process", shutdown=1.0))
        world.deaf = world.immortal = {"p"}
        world.send(m.Shutdown())
        world.advance(60.0)
        assert world.end == SHUTDOWN
        assert world.take_words() == "-p !p -a"
        assert [effect.reason.kind for effect in world.of(m.Gone)] == ["hung", "shutdown"]

    def test_how_a_child_went_is_told(self) -> None:
        """Never ready, stopped, or by itself; and from that what is worth a report."""
        world = up(spec("a", kind="process"), spec("b"), spec("t", restart="transient"), max_restarts=9)
        world.crash("a")
        world.crash("t", NORMAL)
        world.slow_starts = {"b"}
        world.crash("b", NORMAL)
        world.notice("b", StartFailed(CRASH))
        world.deaf = {"a"}
        stopped = world.ask(m.TerminateChild("a"))
        world.advance(5.0)
        assert world.outcome(stopped) == ("ok", None)
        assert [(effect.spec.id, effect.how, effect.report_kind) for effect in world.of(m.Gone)] == [
            ("a", "by_itself", "child_terminated"),
            ("t", "by_itself", None),
            ("b", "by_itself", "child_terminated"),
            ("b", "unready", "start_error"),
            ("a", "stopped", "shutdown_error"),
        ]


class TestACollapse:
    """The supervisor itself has failed: its children go at once, whatever their specs say."""

    def test_processes_and_supervisors_are_killed_and_threads_asked_all_at_once(self) -> None:
        """Nobody waits for anybody."""
        world = up(spec("a"), spec("p", kind="process", shutdown="infinity"), spec("s", kind="supervisor"), spec("b"))
        world.deaf = {"a", "b"}
        world.send(m.Collapse(CRASH))
        assert sorted(world.take_words().split()) == ["!p", "!s", "-a", "-b"]
        assert world.end is None
        world.crash("a", SHUTDOWN)
        world.crash("b", SHUTDOWN)
        assert world.end == CRASH

    def test_a_stop_under_way_is_cut_short(self) -> None:
        """Those who were being asked are killed, those whose turn had not come as well."""
        world = up(spec("p", kind="process"), spec("q", kind="process"), spec("r", kind="process"))
        world.deaf = {"p", "q", "r"}
        world.send(m.Shutdown())
        assert world.take_words() == "-r"
        world.send(m.Collapse(CRASH))
        assert sorted(world.take_words().split()) == ["!p", "!q", "!r"]
        assert world.end == SHUTDOWN

    def test_who_waited_for_a_start_is_told(self) -> None:
        """And nothing is started any more."""
        world = up(spec("a", backoff=Backoff(60.0, 60.0)))
        world.slow_starts = {"d"}
        waiting = world.ask(m.StartChild(spec("d")))
        world.crash("a")
        world.send(m.Collapse(CRASH))
        assert world.outcome(waiting) == ("no", "stopping")
        world.advance(100.0)
        assert world.alive_ids() == []


def test_a_free_reason_pauses_but_never_ends() -> None:
    """What costs nothing does not lengthen the pauses either."""
    world = up(spec("a", backoff=Backoff(1.0, 60.0, jitter=0.0)), max_restarts=1)
    for _ in range(5):
        world.crash("a", ExitReason("timeout"))
        assert world.next_timer() == 1.0
        world.advance(1.0)
    assert world.end is None


def test_a_hung_supervisor_is_not_started_again_in_the_same_process() -> None:
    """The thread it could not end is still there, and would have a double."""
    world = up(spec("s", kind="supervisor"), strategy="one_for_all")
    world.notice("s", Exited(HUNG))
    assert world.end == HUNG


def test_one_child_among_thousands_costs_what_it_costs_among_few() -> None:
    """Counted in lines executed: a start, a crash, a stop, and a death while all are stopping search nothing."""
    few, many = lines_for_one_of(20), lines_for_one_of(2000)
    assert all(many[what] < 2 * few[what] for what in few), (few, many)


def lines_for_one_of(size: int) -> dict[str, int]:
    world = up(dynamic=True, max_restarts=10)
    for number in range(size):
        world.ask(m.StartChild(spec(f"c{number}")))

    def dies(name: str, notice: Exited) -> m.Noticed:
        return m.Noticed(world.entry(name).incarnation, notice)

    crash, terminate = dies("c5", Exited(CRASH)), m.TerminateChild("c6")
    lines = {
        "start": lines_of(lambda: world.ask(m.StartChild(spec("one")))),
        "crash": lines_of(lambda: world.send(crash)),
        "stop": lines_of(lambda: world.ask(terminate)),
    }
    world.deaf = set(world.machine.children)
    world.send(m.Shutdown())
    death = dies("c7", Exited(SHUTDOWN))
    lines["death"] = lines_of(lambda: world.send(death))
    return lines


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of Python a piece of work takes."""
    lines = 0

    def look(_frame: FrameType, event: str, _argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
