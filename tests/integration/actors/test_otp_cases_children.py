"""OTP's supervisor suite, the cases of single children: how a supervisor starts and stops, its commands, its specs.

Each docstring begins with the name of OTP's case.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from otp_world import (
    SOON,
    ProcessWorker,
    Worker,
    World,
    counts,
    ended,
    refusal,
    rows,
    runs_as,
    states,
)

from pop_actors.actors import (
    SHUTDOWN,
    Actor,
    ActorSystem,
    ChildSpec,
    ExitReason,
    Json,
    Policy,
    Report,
    StartRefused,
    Strategy,
    Supervisor,
    SupervisorRef,
    Unavailable,
    check_child_specs,
    supervisor,
    thread,
)
from support.daemon import wait_until

TWICE = Policy(max_restarts=2, period_seconds=3600)
RESTARTS = ["permanent", "transient", "temporary"]


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def world(reports: list[Report]) -> Iterator[World]:
    with ActorSystem(report=reports.append) as system:
        yield World(system)


@pytest.fixture
def top(world: World) -> Supervisor:
    return world.system.supervise("top", policy=TWICE)


# --- start


def test_an_empty_supervisor_starts_and_stops(top: Supervisor) -> None:
    """sup_start_normal: it ends with reason shutdown when it is stopped."""
    assert counts(top) == [0, 0, 0, 0]
    assert top.stop_and_wait(SOON)
    assert ended(top) == SHUTDOWN


def test_a_child_with_nothing_to_do_keeps_its_spec(world: World, top: Supervisor) -> None:
    """sup_start_ignore_child: a permanent child that ignores its start is known, and is not running."""
    world.diary.plan("one", "ignore")
    assert top.start_child(world.spec("one")).result(SOON) is None
    assert top.start_child(world.spec("two")).result(SOON) == 1
    assert states(top) == {"one": "stopped", "two": "running"}
    assert counts(top) == [2, 1, 0, 2]


def test_a_temporary_child_with_nothing_to_do_is_not_kept(world: World) -> None:
    """sup_start_ignore_temporary_child, _start_child: neither from the first list nor by command."""
    world.diary.plan("one", "ignore", "ignore")
    top = world.system.supervise("top", [world.spec("one", "temporary"), world.spec("two", "temporary")], policy=TWICE)
    assert states(top) == {"two": "running"}
    assert top.start_child(world.spec("one", "temporary")).result(SOON) is None
    assert states(top) == {"two": "running"}
    assert counts(top) == [1, 1, 0, 1]


def test_a_supervisor_with_nothing_to_do_is_no_failure(world: World) -> None:
    """sup_start_ignore_init: a supervisor may ignore its own start, and is then a child that does not run."""

    class Idle(Supervisor):
        def on_start(self) -> None:
            self.end()

    top = world.system.supervise("top")
    assert top.start_child(ChildSpec("idle", supervisor(Idle))).result(SOON) is None
    assert counts(top) == [1, 0, 1, 0]


def test_a_supervisor_whose_own_start_fails_says_why(world: World) -> None:
    """sup_start_fail: the error of its code reaches whoever starts it."""

    class Broken(Supervisor):
        def on_start(self) -> None:
            raise LookupError("no such table")

    with pytest.raises(StartRefused, match="no such table"):
        world.system.supervise("top", kind=Broken)
    top = world.system.supervise("other")
    assert refusal(top.start_child(ChildSpec("broken", supervisor(Broken)))) == "start_failed"


def test_the_first_child_that_does_not_start_is_named_and_the_others_are_stopped(world: World) -> None:
    """faulty_application_shutdown: who, why, and nothing is left behind, at any depth."""
    world.diary.failing.add("three")
    deep = ChildSpec("deep", supervisor(specs=world.specs("two", "three", "four")))
    with pytest.raises(StartRefused, match=r"(?s)three.*three does not start"):
        world.system.supervise("top", [world.spec("one"), deep])
    assert [line for line in world.diary.take() if not line.startswith("try")] == [
        "up one",
        "up two",
        "down two",
        "down one",
    ]
    assert [a for a in world.system.registry.addresses() if a in ("top", "one", "two", "three", "four", "deep")] == []


def test_defaults_of_a_child_spec_are_otps(world: World, top: Supervisor) -> None:
    """sup_start_map: a permanent worker that has five seconds to stop; a supervisor has for ever."""
    plain = ChildSpec("plain", thread(Worker, diary=world.diary, name="plain"))
    nested = ChildSpec("nested", supervisor())
    brutal = ChildSpec("brutal", world.system.process(ProcessWorker), shutdown="brutal_kill")
    for spec in (plain, nested, brutal):
        top.start_child(spec).result(SOON)
    found = {name: top.get_child_spec(name).result(SOON) for name in ("plain", "nested", "brutal")}
    assert {name: (s.restart, s.shutdown, s.kind, s.significant) for name, s in found.items()} == {
        "plain": ("permanent", 5.0, "thread", False),
        "nested": ("permanent", "infinity", "supervisor", False),
        "brutal": ("permanent", "brutal_kill", "process", False),
    }
    assert refusal(top.get_child_spec("child4")) == "not_found"


# --- specs and flags


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"start": "no function"}, "start"),
        ({"start": None}, "start"),
        ({"restart": "prmanent"}, "permanent"),
        ({"restart": None}, "permanent"),
        ({"shutdown": -10}, "shutdown"),
        ({"shutdown": float("nan")}, "shutdown"),
        ({"shutdown": "brutal"}, "brutal_kill"),
        ({"shutdown": True}, "shutdown"),
        ({"kind": "wrker"}, "supervisor"),
        ({"significant": "yes"}, "significant"),
        ({"significant": True}, "permanent"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": None}, "id"),
        ({"backoff": 3}, "backoff"),
        ({"backoff": "slow"}, "backoff"),
        ({"first_epoch": 0}, "epoch"),
        ({"start_seconds": 0}, "start_seconds"),
        ({"start_seconds": "60"}, "start_seconds"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_where_it_is_made(changes: dict[str, Any], word: str) -> None:
    """child_specs: bad specs are errors that name what is wrong."""
    good: dict[str, Any] = {"id": "child", "start": thread(Actor)}
    with pytest.raises((ValueError, TypeError), match=word):
        ChildSpec(**{**good, **changes})


def test_a_spec_without_id_or_start_cannot_be_made() -> None:
    """sup_start_map_faulty_specs: missing_id, missing_start, and a word that is not known."""
    for arguments in ({"start": thread(Actor)}, {"id": "x"}, {"id": "x", "start": thread(Actor), "silly_flag": True}):
        with pytest.raises(TypeError, match=r"id|start|silly_flag"):
            ChildSpec(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["hej", None, 7, {"id": "x"}])
def test_what_is_no_spec_is_refused_by_a_code(top: Supervisor, bad: Any) -> None:
    """child_specs: start_child of something else is the caller's error, and the supervisor lives on."""
    assert refusal(top.start_child(bad)) == "bad_spec"
    assert counts(top) == [0, 0, 0, 0]
    with pytest.raises((TypeError, ValueError), match="ChildSpec"):
        check_child_specs([bad])


def test_a_list_of_specs_is_checked(world: World) -> None:
    """child_specs: duplicate ids, and what is no list."""
    check_child_specs(world.specs("one", "two"))
    with pytest.raises(ValueError, match="one"):
        check_child_specs([*world.specs("one", "two"), world.spec("one", "temporary")])
    with pytest.raises(TypeError, match=r"list of ChildSpecs"):
        check_child_specs(world.spec("one"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one"):
        world.system.supervise("top", world.specs("one", "one"))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"strategy": "none_for_one"}, "one_for_one"),
        ({"strategy": None}, "one_for_one"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"max_restarts": "infinity"}, "max_restarts"),
        ({"max_restarts": 1.5}, "max_restarts"),
        ({"max_restarts": True}, "max_restarts"),
        ({"period_seconds": 0}, "period_seconds"),
        ({"period_seconds": "infinity"}, "period_seconds"),
        ({"period_seconds": float("nan")}, "period_seconds"),
        ({"auto_shutdown": "sometimes"}, "any_significant"),
        ({"max_children": -1, "dynamic": True}, "max_children"),
        ({"max_children": "many", "dynamic": True}, "max_children"),
        ({"dynamic": True, "auto_shutdown": "any_significant"}, "auto_shutdown"),
        ({"dynamic": True, "auto_shutdown": "all_significant"}, "auto_shutdown"),
        ({"dynamic": True, "strategy": "one_for_all"}, "one_for_all"),
        ({"intensity_scope": "galaxy"}, "intensity_scope"),
        ({"heartbeat_seconds": 0}, "heartbeat"),
        ({"free_reasons": frozenset({"boredom"})}, "free_reasons"),
        ({"silly_flag": True}, "silly_flag"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: dict[str, Any], word: str) -> None:
    """sup_flags, significant_simple: the error names the flag or what is allowed."""
    with pytest.raises((ValueError, TypeError), match=word):
        Policy(**flags)


# --- commands


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_the_commands_one_after_the_other(world: World, top: Supervisor, kind: str) -> None:
    """child_adm, extra_return: every command on a child in every state, with OTP's answers."""
    spec = world.spec("child") if kind == "thread" else ChildSpec("child", world.system.process(ProcessWorker))
    assert top.start_child(spec).result(SOON) == 1
    assert counts(top) == [1, 1, 0, 1]
    assert refusal(top.start_child(spec)) == "already_started"

    for command in (top.terminate_child, top.delete_child, top.restart_child, top.get_child_spec):
        assert refusal(command("hej")) == "not_found"
    assert top.terminate_child("child").result(SOON) is None
    assert world.system.registry.find("child") is None
    assert states(top) == {"child": "stopped"}
    assert counts(top) == [1, 0, 0, 1]
    assert top.terminate_child("child").result(SOON) is None  # twice is no error
    assert refusal(top.start_child(spec)) == "already_present"

    assert top.restart_child("child").result(SOON) == 2
    assert counts(top) == [1, 1, 0, 1]
    assert refusal(top.restart_child("child")) == "running"
    assert refusal(top.delete_child("child")) == "running"

    top.terminate_child("child").result(SOON)
    assert top.delete_child("child").result(SOON) is None
    assert refusal(top.restart_child("child")) == "not_found"
    assert refusal(top.terminate_child("child")) == "not_found"
    assert counts(top) == [0, 0, 0, 0]
    assert top.start_child(spec).result(SOON) >= 1
    assert counts(top) == [1, 1, 0, 1]

    world.system.ref("child").tell("die") if kind == "thread" else top.running("child").kill()
    wait_until(lambda: rows(top)["child"]["restarts"] == 1 and states(top)["child"] == "running", SOON)


def test_a_temporary_child_terminated_by_hand_is_forgotten(world: World, top: Supervisor) -> None:
    """terminate_child/2: the spec of a temporary child goes with it."""
    top.start_child(world.spec("child", "temporary")).result(SOON)
    assert top.terminate_child("child").result(SOON) is None
    assert counts(top) == [0, 0, 0, 0]
    assert refusal(top.terminate_child("child")) == "not_found"


def test_nobody_at_the_address_is_told_apart(world: World, top: Supervisor) -> None:
    """child_adm, noproc: a command for a supervisor that is gone, or never was, fails at once."""
    nobody = SupervisorRef(world.system.registry, "foo")
    for future in (
        nobody.which_children(),
        nobody.count_children(),
        nobody.start_child(world.spec("x")),
        nobody.terminate_child("x"),
        nobody.delete_child("x"),
    ):
        with pytest.raises(Unavailable, match="foo"):
            future.result(SOON)
    top.stop_and_wait(SOON)
    with pytest.raises(Unavailable, match="top"):
        top.which_children().result(SOON)


@pytest.mark.parametrize("bad", [7, None, b"child", ["child"]])
def test_an_id_that_is_no_word_is_not_found(top: Supervisor, bad: Any) -> None:
    """child_adm: terminate_child of something that is no id; the supervisor lives on."""
    assert refusal(top.terminate_child(bad)) == "not_found"
    assert counts(top) == [0, 0, 0, 0]


def test_a_first_start_by_hand_that_fails_leaves_nothing(world: World, top: Supervisor) -> None:
    """start_child/2: an error, with the reason, and the spec is not kept."""
    world.diary.plan("child", "fail")
    with pytest.raises(Exception, match="child does not start"):
        top.start_child(world.spec("child")).result(SOON)
    assert counts(top) == [0, 0, 0, 0]
    assert top.start_child(world.spec("child")).result(SOON) >= 1


def test_a_restart_by_hand_that_fails_leaves_it_stopped(world: World, top: Supervisor) -> None:
    """restart_child/2: an error; the child stays as it was, and no unit of the budget is spent."""
    top.start_child(world.spec("child")).result(SOON)
    top.terminate_child("child").result(SOON)
    world.diary.plan("child", *["fail"] * 5)
    for _ in range(5):
        assert refusal(top.restart_child("child")) == "start_failed"
    assert states(top) == {"child": "stopped"}
    top.restart_child("child").result(SOON)
    assert states(top) == {"child": "running"}


# --- exits


ABNORMAL = {"thread": ["die"], "process": ["die", "exit 0", "exit 3", "kill"]}
IN_ORDER = {"thread": ["normal", "shutdown", "shutdown because"], "process": ["normal"]}
EXITS = [
    (kind, restart, how, restart == "permanent" or (restart == "transient" and how in ABNORMAL[kind]))
    for kind in ("thread", "process")
    for restart in RESTARTS
    for how in ABNORMAL[kind] + IN_ORDER[kind]
]


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with ActorSystem(warm=2) as system:
        yield World(system)


@pytest.mark.parametrize(("kind", "restart", "how", "comes_back"), EXITS)
def test_who_is_started_again(shared: World, kind: str, restart: str, how: str, comes_back: bool) -> None:
    """{permanent,transient,temporary}_{normal,shutdown,abnormal}: the restart type and the reason decide."""
    name = f"{kind}-{restart}-{how.replace(' ', '-')}"
    start = thread(Worker, diary=shared.diary, name=name) if kind == "thread" else shared.system.process(ProcessWorker)
    top = shared.system.supervise(f"top-{name}", [ChildSpec(name, start, restart)], policy=TWICE)  # type: ignore[arg-type]
    shared.exit(name, how if kind == "thread" else Json(how))  # type: ignore[arg-type]
    if comes_back:
        runs_as(top, {name: 2})
        assert counts(top) == [1, 1, 0, 1]
    elif restart == "transient":
        wait_until(lambda: states(top) == {name: "stopped"}, SOON)
        assert counts(top) == [1, 0, 0, 1]
    else:
        wait_until(lambda: counts(top) == [0, 0, 0, 0], SOON)
    top.stop_and_wait(SOON)


# --- stop


@pytest.mark.parametrize("strategy", list(Strategy))
def test_children_start_in_order_and_stop_in_reverse(world: World, strategy: Strategy) -> None:
    """order_of_children: with ids that are not in alphabetical order."""
    names = ["ch7", "ch3", "ch10", "ch2", "ch5"]
    top = world.system.supervise("top", world.specs(*names), policy=Policy(strategy))
    top.stop_and_wait(SOON)
    lines = [line for line in world.diary.take() if not line.startswith("try")]
    assert lines == [f"up {name}" for name in names] + [f"down {name}" for name in reversed(names)]


def test_infinity_is_for_workers_and_supervisors(world: World) -> None:
    """sup_stop_infinity: a child that takes its time is waited for."""
    top = world.system.supervise(
        "top",
        [
            ChildSpec("nested", supervisor(specs=world.specs("deep")), shutdown="infinity"),
            world.spec("worker", shutdown="infinity"),
        ],
    )
    late = threading.Event()
    world.system.ref("worker").tell(late)
    top.request_stop()
    wait_until(lambda: states(top)["worker"] == "stopping", SOON)
    late.set()
    assert ended(top) == SHUTDOWN
    assert world.diary.take()[-2:] == ["down worker", "down deep"]


def test_who_does_not_stop_in_time_is_killed(world: World, reports: list[Report]) -> None:
    """sup_stop_timeout: a process is killed after its time, the others stop in order, the supervisor's reason is
    shutdown."""
    deaf = ChildSpec("deaf", world.system.process(ProcessWorker), shutdown=0.05)
    top = world.system.supervise("top", [world.spec("worker"), deaf])
    world.system.ref("deaf").tell(Json("deaf"))
    assert top.stop_and_wait(SOON)
    assert ended(top) == SHUTDOWN
    assert world.diary.take()[-1] == "down worker"
    assert [(r.child, r.reason.kind) for r in reports if r.kind == "shutdown_error" and r.reason] == [
        ("deaf", "signal")
    ]


def test_brutal_kill_asks_nobody(world: World) -> None:
    """sup_stop_brutal_kill: a process that hears nothing is gone at once."""
    deaf = ChildSpec("deaf", world.system.process(ProcessWorker), shutdown="brutal_kill")
    top = world.system.supervise("top", [world.spec("worker"), deaf])
    world.system.ref("deaf").tell(Json("deaf"))
    assert top.stop_and_wait(SOON)
    assert ended(top) == SHUTDOWN
    assert world.diary.take()[-1] == "down worker"


@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown because", "die"])
@pytest.mark.parametrize("restart", RESTARTS)
def test_children_that_end_by_themselves_during_the_stop_are_no_obstacle(world: World, restart: str, how: str) -> None:
    """sup_stop_race: while the last child takes its time to stop, the others end for other reasons; nobody comes
    back."""
    top = world.system.supervise(
        "top", [world.spec("first", "temporary"), world.spec("child", restart), world.spec("last", "temporary")]
    )
    late = threading.Event()
    world.system.ref("last").tell(late)
    top.request_stop()
    wait_until(lambda: states(top)["last"] == "stopping", SOON)
    world.exit("child", how)
    late.set()
    assert top.wait_ended(SOON)
    assert ended(top) == SHUTDOWN
    lines = world.diary.take()
    assert lines[-1] == "down first"
    assert lines.count("try child") == 1


def test_a_child_that_swallows_its_exit_does_not_hang_its_supervisor(world: World, top: Supervisor) -> None:
    """child_unlink: a child its supervisor hears nothing of any more can still be terminated; the supervisor answers
    meanwhile."""
    top.start_child(ChildSpec("naughty", world.system.process(ProcessWorker), shutdown=0.05)).result(SOON)
    world.system.ref("naughty").tell(Json("deaf"))
    gone = top.terminate_child("naughty")
    assert counts(top)[0] == 1
    gone.result(SOON)
    assert states(top) == {"naughty": "stopped"}


def test_a_supervisor_that_ends_itself_is_stopped_in_order(world: World) -> None:
    """A supervisor's own code may end it: its children are stopped first."""

    class Ends(Supervisor):
        def receive(self, message: Any) -> object:
            if message == "enough":
                self.end(ExitReason("normal", "enough"))
                return None
            return super().receive(message)

    top = world.system.supervise("top", world.specs("one", "two"), kind=Ends)
    top.tell("enough")
    assert ended(top) == ExitReason("normal", "enough")
    assert world.diary.take()[-2:] == ["down two", "down one"]
