"""The supervision machine, by tables: what it does about starts, deaths, commands and time."""

from __future__ import annotations

import pytest
from supervision_world import CRASH, World, spec

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import NORMAL, SHUTDOWN, Beat, ChildSpec, Exited, ExitReason, Started, StartFailed
from pop_actors.actors.policy import Policy
from pop_actors.actors.restart_budget import Backoff, RestartWindow

HUNG = ExitReason("hung", "did not stop")


def three(**policy: object) -> World:
    world = World(spec("a"), spec("b"), spec("c"), **policy)
    world.begin()
    world.take_words()
    return world


class TestStart:
    def test_a_child_is_launched_only_once_the_one_before_it_has_started(self) -> None:
        """Start order is a promise: b may rely on a."""
        world = World(spec("a"), spec("b"))
        world.slow_starts = {"a"}
        world.begin()
        assert world.take_words() == "+a"
        assert not world.of(m.Up)
        world.notice("a", Started())
        assert world.take_words() == "+b"
        assert len(world.of(m.Up)) == 1

    def test_a_failed_first_start_undoes_what_was_started_and_fails_the_supervisor(self) -> None:
        """No retries at first start: the reverse is stopped and the reason names the child."""
        world = World(spec("a"), spec("b"), spec("c"), spec("d"))
        world.failing_starts = {"c"}
        world.begin()
        assert world.take_words() == "+a +b +c -b -a"
        assert world.alive_ids() == []
        assert world.end is not None
        assert "child c did not start" in world.end.detail
        assert not world.of(m.Up)

    def test_a_start_that_takes_too_long_is_hung(self) -> None:
        """A process is killed for it; a thread cannot be, so everything ends."""
        world = World(spec("a"), spec("t", start_seconds=7.0))
        world.slow_starts = world.deaf = {"t"}
        world.begin()
        world.advance(6.9)
        assert world.end is None
        world.advance(10.0)
        assert world.end is not None
        assert world.end.kind == "hung"
        assert world.take_words() == "+a +t -t -a"

    def test_epochs_begin_where_the_spec_says_and_count_every_start(self) -> None:
        """An owner that knows of earlier runs hands their number in."""
        world = World(spec("a", first_epoch=7))
        world.begin()
        world.crash("a")
        assert [effect.epoch for effect in world.of(m.Spawn)] == [7, 8]

    def test_a_supervisor_without_children_is_up_at_once(self) -> None:
        """A dynamic one starts empty."""
        world = World(dynamic=True)
        world.begin()
        assert len(world.of(m.Up)) == 1


class TestStrategies:
    @pytest.mark.parametrize(
        ("strategy", "done"),
        [("one_for_one", "+b"), ("one_for_all", "-c -a +a +b +c"), ("rest_for_one", "-c +b +c")],
    )
    def test_who_goes_down_and_comes_back_with_a_child(self, strategy: str, done: str) -> None:
        """Stops run in reverse order, starts in order, and the strategy says of whom."""
        world = three(strategy=strategy)
        world.crash("b")
        assert world.take_words() == done
        assert world.alive_ids() == ["a", "b", "c"]

    def test_the_restart_waits_until_the_last_of_the_group_is_really_gone(self) -> None:
        """No two incarnations at once, however slowly one goes."""
        world = three(strategy="one_for_all")
        world.deaf = {"a"}
        world.crash("b")
        assert world.take_words() == "-c -a"
        world.crash("a", SHUTDOWN)
        assert world.take_words() == "+a +b +c"

    def test_one_for_all_begins_again_when_one_of_the_group_does_not_come_back(self) -> None:
        """What had been restarted before it goes down again."""
        world = three(strategy="one_for_all", max_restarts=10)
        world.slow_starts = {"b"}
        world.crash("a")
        assert world.take_words() == "-c -b +a +b"
        world.notice("b", StartFailed(CRASH))
        assert world.take_words() == "-a +a +b"

    def test_rest_for_one_begins_again_from_the_child_that_did_not_come_back(self) -> None:
        """Those before it stay."""
        world = three(strategy="rest_for_one", max_restarts=10)
        world.slow_starts = {"b"}
        world.crash("a")
        assert world.take_words() == "-c -b +a +b"
        world.notice("b", StartFailed(CRASH))
        assert world.take_words() == "+b"
        world.notice("b", Started())
        assert world.take_words() == "+c"

    def test_a_death_in_a_group_that_is_being_stopped_costs_nothing(self) -> None:
        """A sibling that crashes while it waits for its turn to stop is stopped, not a second failure."""
        world = three(strategy="one_for_all", max_restarts=1)
        world.deaf = {"c"}
        world.crash("a")
        world.crash("b")
        world.crash("c")
        assert world.end is None
        assert world.alive_ids() == ["a", "b", "c"]

    def test_a_temporary_child_stopped_with_its_group_is_forgotten(self) -> None:
        """Temporary means never again, also when a sibling was to blame."""
        world = World(spec("a"), spec("t", restart="temporary"), strategy="one_for_all")
        world.begin()
        world.crash("a")
        assert world.alive_ids() == ["a"]
        assert list(world.machine.children) == ["a"]

    def test_strategies_with_groups_are_refused_where_children_stand_alone(self) -> None:
        """Dynamic children and budgets per child know no siblings."""
        with pytest.raises(ValueError, match="one_for_all"):
            Policy(strategy="one_for_all", dynamic=True)
        with pytest.raises(ValueError, match="rest_for_one"):
            Policy(strategy="rest_for_one", intensity_scope="child")


class TestRestartTypes:
    @pytest.mark.parametrize(
        ("restart", "reason", "comes_back", "is_kept"),
        [
            ("permanent", NORMAL, True, True),
            ("permanent", SHUTDOWN, True, True),
            ("permanent", CRASH, True, True),
            ("transient", NORMAL, False, True),
            ("transient", SHUTDOWN, False, True),
            ("transient", CRASH, True, True),
            ("transient", ExitReason("signal", "SIGKILL"), True, True),
            ("transient", ExitReason("timeout"), True, True),
            ("temporary", NORMAL, False, False),
            ("temporary", CRASH, False, False),
        ],
    )
    def test_what_becomes_of_a_child_that_ends(
        self, restart: str, reason: ExitReason, comes_back: bool, is_kept: bool
    ) -> None:
        """The table of restart types and reasons; a temporary child's spec goes with it."""
        world = World(spec("x", restart=restart))
        world.begin()
        world.crash("x", reason)
        assert world.alive_ids() == (["x"] if comes_back else [])
        assert ("x" in world.machine.children) is is_kept
        assert [effect.will_restart for effect in world.of(m.Gone)] == [comes_back]

    @pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
    def test_significant_children_end_their_supervisor_when_they_end_by_themselves(self, mode: str) -> None:
        """The first, or the last of them, as the policy says."""
        children = [spec("s", restart="transient", significant=True), spec("t", restart="transient", significant=True)]
        world = World(*children, spec("p"), auto_shutdown=mode)
        world.begin()
        world.crash("s", NORMAL)
        assert (world.end is not None) is (mode == "any_significant")
        if mode == "all_significant":
            world.crash("t", NORMAL)
        assert world.end is not None
        assert world.end.kind == "shutdown"
        assert world.alive_ids() == []

    def test_a_significant_child_that_was_terminated_ends_nobody(self) -> None:
        """Only what a child does by itself counts."""
        world = World(spec("s", restart="transient", significant=True), auto_shutdown="any_significant")
        world.begin()
        world.ask(m.TerminateChild("s"))
        assert world.end is None

    def test_specs_that_make_no_sense_are_refused(self) -> None:
        """Permanent and significant, significant for nobody, a thread to be killed, two of a name."""
        with pytest.raises(ValueError, match="permanent"):
            spec("x", significant=True)
        with pytest.raises(ValueError, match="auto_shutdown"):
            World(spec("x", restart="transient", significant=True))
        with pytest.raises(ValueError, match="cannot be killed"):
            spec("x", shutdown="brutal_kill")
        with pytest.raises(ValueError, match="two children"):
            World(spec("x"), spec("x"))


class TestIntensity:
    def test_one_restart_too_many_in_the_window_stops_all_and_exits(self) -> None:
        """Three are allowed, the fourth death ends it, in reverse order."""
        world = three(max_restarts=3, period_seconds=60)
        for _ in range(3):
            world.crash("b")
        world.take_words()
        world.crash("b")
        assert world.take_words() == "-c -a"
        assert world.end is not None
        assert world.end.kind == "shutdown"
        assert "child b failed too often" in world.end.detail

    def test_the_window_slides(self) -> None:
        """Deaths that are old enough are forgotten, one by one."""
        world = three(max_restarts=2, period_seconds=10)
        for _ in range(9):
            world.crash("b")
            world.advance(5.0)
        assert world.end is None
        world.crash("b")
        world.crash("b")
        assert world.end is not None

    def test_the_restart_of_a_group_counts_once(self) -> None:
        """However many go with the one that failed."""
        world = three(strategy="one_for_all", max_restarts=3)
        for _ in range(3):
            world.crash("a")
        assert world.end is None

    def test_a_failed_restart_counts_too(self) -> None:
        """Otherwise a child that cannot start would be tried for ever."""
        world = three(max_restarts=3)
        world.failing_starts = {"a"}
        world.crash("a")
        assert world.end is not None
        assert world.words.count("+a") == 3

    def test_an_exit_by_timeout_is_free(self) -> None:
        """Work that took too long says nothing about the child."""
        world = three(max_restarts=1)
        for _ in range(10):
            world.crash("a", ExitReason("timeout"))
        assert world.end is None
        assert world.alive_ids() == ["a", "b", "c"]

    def test_a_child_with_its_own_budget_is_given_up_alone(self) -> None:
        """A poisoned job does not stop the others, nor use up their budget."""
        world = World(dynamic=True, intensity_scope="child", max_restarts=2)
        world.begin()
        for name in ("poisoned", "well"):
            world.ask(m.StartChild(spec(name, restart="transient")))
        for _ in range(3):
            world.crash("poisoned")
        assert [effect.spec.id for effect in world.of(m.GaveUp)] == ["poisoned"]
        assert [effect.will_restart for effect in world.of(m.Gone)] == [True, True, False]
        assert world.end is None
        assert world.alive_ids() == ["well"]
        for _ in range(2):
            world.crash("well")
        assert world.alive_ids() == ["well"]

    def test_failures_in_a_row_count_where_pauses_would_never_let_the_window_fill(self) -> None:
        """Backoff spaces deaths out of any window; their number still has an end."""
        slow = Backoff(minimum=100.0, maximum=100.0, jitter=0.0, reset_after=50.0)
        world = World(spec("a", backoff=slow), max_restarts=3, period_seconds=60)
        world.begin()
        for _ in range(3):
            world.crash("a")
            world.advance(101.0)
        assert world.alive_ids() == ["a"]
        world.crash("a")
        assert world.end is not None

    def test_a_window_allows_its_limit_and_forgets_after_its_period(self) -> None:
        """The edge: exactly one period later a restart no longer counts."""
        window = RestartWindow(limit=1, period=10.0)
        assert window.charge(0.0)
        assert not window.charge(9.5)
        assert window.charge(19.5)


class TestBackoff:
    @pytest.mark.parametrize(
        ("failures_before", "random", "delay"),
        [(0, 0.0, 1.0), (1, 0.0, 2.0), (3, 0.0, 8.0), (4, 0.0, 10.0), (4, 0.5, 12.5), (10_000, 1.0, 15.0)],
    )
    def test_the_pause_doubles_up_to_its_maximum_and_jitter_comes_on_top(
        self, failures_before: int, random: float, delay: float
    ) -> None:
        """min(max, min * 2**n) * (1 + random * jitter)."""
        assert Backoff(1.0, 10.0, jitter=0.5).delay(failures_before, random) == delay

    def test_a_child_comes_back_after_its_pause_and_the_supervisor_answers_meanwhile(self) -> None:
        """A pause is a state (`restarting`), not a wait."""
        world = World(spec("a", backoff=Backoff(4.0, 60.0, jitter=0.0)))
        world.begin()
        world.crash("a")
        assert world.next_timer() == 4.0
        asked = world.ask(m.WhichChildren())
        assert world.outcome(asked) == (
            "ok",
            [
                {
                    "id": "a",
                    "kind": "thread",
                    "restart": "permanent",
                    "state": "restarting",
                    "epoch": 1,
                    "restarts": 0,
                }
            ],
        )
        world.advance(4.0)
        assert world.alive_ids() == ["a"]
        world.crash("a")
        assert world.next_timer() == 8.0

    def test_a_calm_time_resets_the_pause(self) -> None:
        """What ran long enough begins at the minimum again."""
        world = World(spec("a", backoff=Backoff(4.0, 60.0, jitter=0.0, reset_after=30.0)))
        world.begin()
        world.crash("a")
        world.advance(34.0)
        world.crash("a")
        assert world.next_timer() == 4.0

    def test_a_supervisor_can_be_stopped_while_a_child_waits_to_come_back(self) -> None:
        """The pause is over, too; nothing starts after the end."""
        world = World(spec("a", backoff=Backoff(4.0, 60.0)), spec("b"))
        world.begin()
        world.crash("a")
        world.send(m.Shutdown())
        assert world.end == SHUTDOWN
        world.advance(100.0)
        assert world.alive_ids() == []


class TestStop:
    def test_children_stop_one_by_one_in_reverse(self) -> None:
        """Each is asked when the one after it is gone."""
        world = three()
        world.deaf = {"b"}
        world.send(m.Shutdown())
        assert world.take_words() == "-c -b"
        world.crash("b", SHUTDOWN)
        assert world.take_words() == "-a"
        assert world.end == SHUTDOWN

    def test_dynamic_children_stop_all_at_once(self) -> None:
        """A hundred jobs take as long as the slowest."""
        world = World(dynamic=True)
        world.begin()
        for name in ("x", "y", "z"):
            world.ask(m.StartChild(spec(name, kind="process")))
        world.deaf = {"x", "y", "z"}
        world.take_words()
        world.send(m.Shutdown())
        assert world.take_words() == "-x -y -z"
        world.advance(5.0)
        assert world.take_words() == "!x !y !z"
        assert world.end == SHUTDOWN

    def test_a_process_that_does_not_stop_in_time_is_killed(self) -> None:
        """Polite, then forced; the end is still an orderly one."""
        world = World(spec("p", kind="process", shutdown=3.0))
        world.begin()
        world.deaf = {"p"}
        world.send(m.Shutdown())
        world.advance(2.9)
        assert world.end is None
        world.advance(0.2)
        assert world.take_words() == "+p -p !p"
        assert world.end == SHUTDOWN

    def test_the_first_reason_to_end_is_the_one_that_is_told(self) -> None:
        """A stop that is asked for during an escalation does not hide it."""
        world = three(max_restarts=0)
        world.deaf = {"c"}
        world.crash("a")
        world.send(m.Shutdown())
        world.crash("c", SHUTDOWN)
        assert world.end is not None
        assert "child a failed too often" in world.end.detail

    def test_brutal_kill_does_not_ask(self) -> None:
        """No request, no grace."""
        world = World(spec("p", kind="process", shutdown="brutal_kill"))
        world.begin()
        world.send(m.Shutdown())
        assert world.take_words() == "+p !p"

    def test_a_thread_that_does_not_stop_is_left_behind_and_the_others_still_stop(self) -> None:
        """It cannot be killed; the stop comes to its end without it."""
        world = three()
        world.deaf = {"b"}
        world.send(m.Shutdown())
        world.advance(5.0)
        assert world.take_words() == "-c -b -a"
        assert world.end is not None
        assert [effect.reason.kind for effect in world.of(m.Gone)] == ["shutdown", "hung", "shutdown"]

    def test_a_nested_supervisor_is_given_all_the_time_it_needs(self) -> None:
        """It has time limits of its own below."""
        world = World(spec("s", kind="supervisor"))
        world.begin()
        world.deaf = {"s"}
        world.send(m.Shutdown())
        world.advance(10_000.0)
        assert world.end is None

    def test_a_child_that_is_still_starting_is_stopped_too(self) -> None:
        """Its late `Started` changes nothing."""
        world = World(spec("a"), spec("b"))
        world.slow_starts = world.deaf = {"b"}
        world.begin()
        world.send(m.Shutdown())
        world.notice("b", Started())
        assert world.end is None
        world.crash("b", SHUTDOWN)
        assert world.end == SHUTDOWN
        assert world.alive_ids() == []


class TestHeartbeat:
    def test_a_silent_process_is_killed_and_started_again(self) -> None:
        """Its death is reported as `hung`, once."""
        world = World(spec("p", kind="process"), heartbeat_seconds=5, heartbeat_deadline=30)
        world.begin()
        for _ in range(8):
            world.send(m.Tick())
            world.advance(5.0)
        assert world.take_words() == "+p !p +p"
        assert [effect.reason.kind for effect in world.of(m.Gone)] == ["hung"]

    def test_a_process_that_beats_lives_on(self) -> None:
        """A beat now and then is all it takes."""
        world = World(spec("p", kind="process"))
        world.begin()
        for _ in range(20):
            world.advance(5.0)
            world.notice("p", Beat())
            world.send(m.Tick())
        assert world.take_words() == "+p"

    def test_a_silent_thread_ends_the_whole_supervisor(self) -> None:
        """Threads are pinged; one that does not answer cannot be replaced, so it is for the level above."""
        world = three()
        for _ in range(6):
            world.advance(5.0)
            world.send(m.Tick())
            world.notice("a", Beat())
            world.notice("c", Beat())
        world.deaf = {"b"}
        assert world.end is None
        world.advance(5.0)
        world.send(m.Tick())
        world.advance(5.0)
        assert world.end is not None
        assert world.end.kind == "hung"
        assert len(world.of(m.Ping)) >= 18

    def test_a_nested_supervisor_that_ended_hung_is_not_started_again(self) -> None:
        """The thread that hangs is still there: the whole process has to go."""
        world = World(spec("a"), spec("s", kind="supervisor"))
        world.begin()
        world.crash("s", ExitReason("hung", "child x"))
        assert world.end == ExitReason("hung", "child x")
        assert world.take_words() == "+a +s -a"

    @pytest.mark.parametrize("ticks_before", [0, 1])
    def test_nobody_is_blamed_for_a_pause_of_the_supervisor_itself(self, ticks_before: int) -> None:
        """A late tick means that this process was stopped or starved: the first one as well as any other."""
        world = World(spec("p", kind="process"))
        world.begin()
        for _ in range(ticks_before):
            world.send(m.Tick())
        world.advance(3600.0)
        world.send(m.Tick())
        assert world.take_words() == "+p"

    def test_short_pauses_do_not_add_up_to_a_silence(self) -> None:
        """Only time in which this process was awake counts; of that, a silent child has its deadline's worth."""
        world = World(spec("p", kind="process"), heartbeat_seconds=5, heartbeat_deadline=30)
        world.begin()
        for _ in range(6):
            world.advance(14.0)
            world.send(m.Tick())
        assert world.take_words() == "+p"
        world.advance(5.0)
        world.send(m.Tick())
        assert world.take_words() == "!p +p"


class TestCommands:
    def test_a_child_added_later_is_started_and_its_epoch_answered(self) -> None:
        """The answer comes when it has started, not before."""
        world = three()
        world.slow_starts = {"d"}
        caller = world.ask(m.StartChild(spec("d", first_epoch=3)))
        assert world.outcome(caller) is None
        world.notice("d", Started())
        assert world.outcome(caller) == ("ok", 3)

    def test_a_child_that_fails_its_first_start_is_refused_and_forgotten(self) -> None:
        """The caller hears why; the supervisor goes on."""
        world = three()
        world.failing_starts = {"d"}
        assert world.outcome(world.ask(m.StartChild(spec("d")))) == ("no", "start_failed")
        assert "d" not in world.machine.children
        assert world.end is None

    def test_a_first_start_with_a_budget_of_its_own_is_tried_again(self) -> None:
        """A job killed as it starts is a job that failed once."""
        world = World(dynamic=True, intensity_scope="child", max_restarts=2)
        world.begin()
        world.slow_starts = {"j"}
        caller = world.ask(m.StartChild(spec("j", restart="transient")))
        world.notice("j", StartFailed(CRASH))
        assert world.outcome(caller) is None
        world.notice("j", Started())
        assert world.outcome(caller) == ("ok", 2)

    def test_terminate_keeps_the_spec_restart_brings_it_back_and_delete_forgets_it(self) -> None:
        """The life of a static child by hand."""
        world = three()
        assert world.outcome(world.ask(m.TerminateChild("b"))) == ("ok", None)
        assert world.alive_ids() == ["a", "c"]
        assert world.outcome(world.ask(m.StartChild(spec("b")))) == ("no", "already_present")
        assert world.outcome(world.ask(m.RestartChild("b"))) == ("ok", 2)
        world.ask(m.TerminateChild("b"))
        assert world.outcome(world.ask(m.DeleteChild("b"))) == ("ok", None)
        assert list(world.machine.children) == ["a", "c"]

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (m.StartChild(spec("a")), "already_started"),
            (m.StartChild(spec("s", restart="transient", significant=True)), "bad_spec"),
            (m.RestartChild("a"), "running"),
            (m.DeleteChild("a"), "running"),
            (m.TerminateChild("nobody"), "not_found"),
            (m.DeleteChild("nobody"), "not_found"),
            (m.RestartChild("nobody"), "not_found"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_a_code(self, command: m.Command, code: str) -> None:
        """And changes nothing."""
        world = three()
        assert world.outcome(world.ask(command)) == ("no", code)
        assert world.take_words() == ""

    def test_what_is_being_restarted_is_neither_deleted_nor_restarted(self) -> None:
        """Unless the restart is forced: then it comes at once."""
        world = World(spec("a", backoff=Backoff(60.0, 60.0)))
        world.begin()
        world.crash("a")
        assert world.outcome(world.ask(m.DeleteChild("a"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("no", "restarting")
        assert world.outcome(world.ask(m.RestartChild("a", force=True))) == ("ok", 2)

    def test_a_forced_restart_follows_the_strategy_and_costs_nothing(self) -> None:
        """Those that rely on the child go down and up with it."""
        world = three(strategy="rest_for_one", max_restarts=0)
        assert world.outcome(world.ask(m.RestartChild("b", force=True))) == ("ok", 2)
        assert world.take_words() == "-c -b +b +c"

    def test_a_child_terminated_while_it_waits_to_come_back_stays_down(self) -> None:
        """The pause is called off."""
        world = World(spec("a", backoff=Backoff(5.0, 60.0)))
        world.begin()
        world.crash("a")
        assert world.outcome(world.ask(m.TerminateChild("a"))) == ("ok", None)
        world.advance(100.0)
        assert world.alive_ids() == []

    def test_a_second_stop_message_reaches_a_child_that_is_stopping(self) -> None:
        """First suspended, then to be stopped for good: the later word counts."""
        world = World(spec("p", kind="process", stop_message="suspend"))
        world.begin()
        world.deaf = {"p"}
        callers = [world.ask(m.TerminateChild("p")), world.ask(m.TerminateChild("p", "stop"))]
        assert [effect.message for effect in world.of(m.AskToStop)] == ["suspend", "stop"]
        world.crash("p", SHUTDOWN)
        assert [world.outcome(caller) for caller in callers] == [("ok", None), ("ok", None)]

    def test_a_dynamic_supervisor_takes_no_more_children_than_it_may(self) -> None:
        """A place is free again when a child is gone for good."""
        world = World(dynamic=True, max_children=1)
        world.begin()
        world.ask(m.StartChild(spec("x", restart="transient")))
        assert world.outcome(world.ask(m.StartChild(spec("y")))) == ("no", "max_children")
        world.crash("x", NORMAL)
        assert world.outcome(world.ask(m.StartChild(spec("y")))) == ("ok", 1)

    def test_a_supervisor_that_is_ending_starts_nothing(self) -> None:
        """And says so to those who wait for a start."""
        world = three()
        world.slow_starts = world.deaf = {"d"}
        waiting = world.ask(m.StartChild(spec("d")))
        world.send(m.Shutdown())
        assert world.outcome(waiting) == ("no", "stopping")
        assert world.outcome(world.ask(m.StartChild(spec("e")))) == ("no", "stopping")
        assert world.outcome(world.ask(m.RestartChild("a"))) == ("no", "stopping")
        stopping = world.ask(m.TerminateChild("d"))
        assert world.end is None
        world.crash("d", SHUTDOWN)
        assert world.outcome(stopping) == ("ok", None)
        assert world.end == SHUTDOWN

    def test_children_are_counted(self) -> None:
        """Specs, those alive, and how many of them are supervisors."""
        world = World(spec("a"), spec("s", kind="supervisor"))
        world.begin()
        world.ask(m.TerminateChild("a"))
        counted = world.outcome(world.ask(m.CountChildren()))
        assert counted == ("ok", {"specs": 2, "active": 1, "supervisors": 1, "workers": 1})


class TestNotices:
    def test_a_death_is_heard_once(self) -> None:
        """What an incarnation says after its death is not listened to, whatever its epoch."""
        world = World(dynamic=True)
        world.begin()
        world.ask(m.StartChild(spec("j", restart="transient")))
        old = world.entry("j").incarnation
        world.crash("j", NORMAL)
        world.ask(m.StartChild(spec("j", restart="transient")))
        for late in (Exited(CRASH), StartFailed(CRASH), Started(), Beat()):
            world.send(m.Noticed(old, late))
        assert world.alive_ids() == ["j"]
        assert len(world.of(m.Gone)) == 1

    def test_a_restart_tells_why(self) -> None:
        """A short word for the metric: the kind of exit, `group`, or `asked`."""
        world = three(strategy="rest_for_one")
        world.crash("b", ExitReason("signal", "SIGKILL"))
        world.ask(m.RestartChild("c", force=True))
        told = [(effect.spec.id, effect.because) for effect in world.of(m.Spawn)]
        assert told[3:] == [("b", "signal"), ("c", "group"), ("c", "asked")]


@pytest.mark.parametrize(
    ("given", "grace"),
    [
        (spec("x"), 5.0),
        (spec("x", kind="supervisor"), None),
        (spec("x", shutdown="infinity"), None),
        (spec("x", shutdown=0.5), 0.5),
        (spec("x", kind="process", shutdown="brutal_kill"), 0.0),
    ],
)
def test_the_grace_of_a_child_follows_from_its_spec(given: ChildSpec, grace: float | None) -> None:
    """Five seconds unless said otherwise, and none but their own limits for supervisors."""
    assert given.grace == grace
