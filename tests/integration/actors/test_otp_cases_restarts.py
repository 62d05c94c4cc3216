"""OTP's supervisor suite, the cases of restarts: strategies, intensity, escalation, restarts that fail, trees.

Each docstring begins with the name of OTP's case.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from otp_world import (
    SOON,
    ProcessWorker,
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
    ActorSystem,
    Backoff,
    ChildSpec,
    Json,
    Policy,
    Report,
    Strategy,
    Supervisor,
    SupervisorRef,
    supervisor,
)
from support.daemon import wait_until

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
GROUP = [ALL, REST]


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def world(reports: list[Report]) -> Iterator[World]:
    with ActorSystem(report=reports.append) as system:
        yield World(system)


def policy(strategy: Strategy, max_restarts: int = 2) -> Policy:
    return Policy(strategy, max_restarts, period_seconds=3600)


# --- base cases, and the intensity they share


@pytest.mark.parametrize(
    ("strategy", "after"),
    [(ONE, {"a": 1, "b": 2, "c": 1}), (ALL, {"a": 2, "b": 2, "c": 2}), (REST, {"a": 1, "b": 2, "c": 2})],
)
def test_who_is_restarted_with_it(world: World, strategy: Strategy, after: dict[str, int]) -> None:
    """one_for_one, one_for_all, rest_for_one: who comes back, nobody of the old ones is left, and the third exit is
    one too many."""
    top = world.system.supervise("top", world.specs("a", "b", "c"), policy=policy(strategy))
    before = {name: top.running(name) for name in "abc"}
    world.exit("b", "die")
    runs_as(top, after)
    assert counts(top) == [3, 3, 0, 3]
    for name, epoch in after.items():
        assert (top.running(name) is before[name]) == (epoch == 1)
    world.exit("c", "die")
    wait_until(lambda: sum(row["restarts"] for row in rows(top).values()) > sum(after.values()) - 3, SOON)
    wait_until(lambda: counts(top) == [3, 3, 0, 3], SOON)
    world.exit("b", "die")
    assert ended(top).kind == "shutdown"
    assert world.system.registry.addresses() == []


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_restart_that_never_succeeds_is_escalated(world: World, strategy: Strategy) -> None:
    """{one_for_one,one_for_all,rest_for_one}_escalation: the budget is spent on the failing restart, and everybody
    goes."""
    top = world.system.supervise("top", world.specs("a", "b"), policy=policy(strategy, 4))
    failing = "a" if strategy is ONE else "b"
    world.diary.failing.add(failing)
    world.diary.take()
    world.exit("a", "die")
    reason = ended(top)
    assert reason.kind == "shutdown"
    assert failing in reason.detail
    tries = [line for line in world.diary.take() if line == f"try {failing}"]
    assert len(tries) == 4  # one unit for the exit, three for failed restarts; the fourth failure is one too many
    assert world.system.registry.addresses() == []


@pytest.mark.parametrize("limit", [0, 1, 3])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_exactly_as_many_restarts_as_allowed(world: World, strategy: Strategy, limit: int) -> None:
    """multiple_restarts, sup_flags: so many are allowed and one more is not; a group costs one."""
    top = world.system.supervise("top", world.specs("a", "b"), policy=policy(strategy, limit))
    for epoch in range(2, limit + 2):
        world.exit("a", "die")
        runs_as(top, {"a": epoch, "b": 1 if strategy is ONE else epoch})
    world.exit("a", "die")
    assert ended(top).kind == "shutdown"


# --- restarts that fail for another child


def test_one_for_all_begins_anew_where_another_child_fails_to_restart(world: World) -> None:
    """one_for_all_other_child_fails_restart: the one that was back already is stopped again, and all start anew."""
    top = world.system.supervise("top", world.specs("a", "b"), policy=policy(ALL, 3))
    world.diary.take()
    world.diary.plan("b", "fail")
    world.exit("a", "die")
    runs_as(top, {"a": 3, "b": 3})
    assert world.diary.take() == [
        "down a",
        "down b",
        "try a",
        "up a",
        "try b",
        "down a",
        "try a",
        "up a",
        "try b",
        "up b",
    ]


def test_rest_for_one_goes_on_from_the_child_that_failed_to_restart(world: World) -> None:
    """rest_for_one_other_child_fails_restart: the one that is back stays."""
    top = world.system.supervise("top", world.specs("a", "b"), policy=policy(REST, 3))
    world.diary.take()
    world.diary.plan("b", "fail")
    world.exit("a", "die")
    runs_as(top, {"a": 2, "b": 3})
    assert world.diary.take() == ["down a", "down b", "try a", "up a", "try b", "try b", "up b"]


@pytest.mark.parametrize("strategy", GROUP)
def test_a_temporary_bystander_is_not_brought_back(world: World, strategy: Strategy) -> None:
    """temporary_bystander: it goes with its group for good, spec and all, and costs nothing."""
    top = world.system.supervise(
        "top", [world.spec("a"), world.spec("b", "temporary"), world.spec("c", "transient")], policy=policy(strategy)
    )
    world.exit("a", "normal")
    runs_as(top, {"a": 2, "c": 2})
    assert states(top) == {"a": "running", "c": "running"}
    assert top.start_child(world.spec("b", "temporary")).result(SOON) >= 1


@pytest.mark.parametrize("strategy", GROUP)
def test_a_restart_in_which_a_child_has_nothing_to_do_any_more(world: World, strategy: Strategy) -> None:
    """restart with ignore: the child is kept and does not run, the others come back, and nothing is charged for it."""
    top = world.system.supervise("top", world.specs("a", "b", "c"), policy=policy(strategy, 1))
    world.diary.plan("b", "ignore")
    world.exit("a", "die")
    runs_as(top, {"a": 2, "c": 2})
    assert states(top) == {"a": "running", "b": "stopped", "c": "running"}
    assert counts(top) == [3, 2, 0, 3]
    assert top.restart_child("b").result(SOON) == 3


# --- a child in its restart loop


@pytest.fixture(params=["loop", "pause"])
def hanging(world: World, request: pytest.FixtureRequest) -> Callable[..., Supervisor]:
    """A supervisor one of whose children is in its restart loop: in a start that takes for ever, or in a pause."""

    def make(strategy: Strategy = ONE) -> Supervisor:
        backoff = Backoff(3600, 3600) if request.param == "pause" else None
        specs = [world.spec("a"), world.spec("b", backoff=backoff, shutdown=SOON), world.spec("c")]
        top = world.system.supervise("top", specs, policy=policy(strategy, 8))
        hold(world, request.param)
        world.exit("b", "die")
        wait_until(lambda: states(top)["b"] == "restarting", SOON)
        wait_until(lambda: request.param == "pause" or world.diary.lines().count("try b") == 2, SOON)
        return top

    return make


HOLDS: list[threading.Event] = []


def hold(world: World, how: str) -> None:
    if how == "loop":
        HOLDS.append(threading.Event())
        world.diary.plan("b", HOLDS[-1])


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    yield
    for event in HOLDS:
        event.set()
    HOLDS.clear()


def test_a_child_in_its_restart_loop_is_answered_for(world: World, hanging: Callable[..., Supervisor]) -> None:
    """hanging_restart_loop: every command is answered meanwhile; terminated, it can be deleted or restarted."""
    top = hanging()
    assert refusal(top.start_child(world.spec("b"))) == "already_present"
    assert refusal(top.restart_child("b")) == "restarting"
    assert refusal(top.delete_child("b")) == "restarting"
    assert states(top) == {"a": "running", "b": "restarting", "c": "running"}
    assert counts(top) == [3, 2, 0, 3]
    gone = top.terminate_child("b")
    for event in HOLDS:  # a thread cannot be killed in the middle of its start
        event.set()
    gone.result(SOON)
    assert states(top) == {"a": "running", "b": "stopped", "c": "running"}
    assert top.restart_child("b").result(SOON) >= 2
    assert counts(top) == [3, 3, 0, 3]


def test_a_supervisor_can_be_stopped_while_a_child_is_in_its_restart_loop(
    world: World, hanging: Callable[..., Supervisor]
) -> None:
    """hanging_restart_loop: the stop does not wait for the loop to come to an end."""
    top = hanging()
    top.request_stop()
    for event in HOLDS:
        event.set()
    assert ended(top) == SHUTDOWN
    assert world.system.registry.addresses() == []


def test_the_rest_waits_for_a_child_in_its_restart_loop(world: World, hanging: Callable[..., Supervisor]) -> None:
    """hanging_restart_loop_rest_for_one: those after it are not there, and stay down where it is terminated; those
    before it are not touched."""
    top = hanging(REST)
    assert rows(top)["a"]["epoch"] == 1
    assert states(top)["a"] == "running"
    wait_until(lambda: states(top)["c"] in {"restarting", "waiting", "stopped"}, SOON)
    assert counts(top) == [3, 1, 0, 3]
    gone = top.terminate_child("b")
    for event in HOLDS:
        event.set()
    gone.result(SOON)
    assert states(top) == {"a": "running", "b": "stopped", "c": "stopped"}
    top.restart_child("b").result(SOON)
    assert states(top) == {"a": "running", "b": "running", "c": "stopped"}
    top.restart_child("c").result(SOON)
    assert counts(top) == [3, 3, 0, 3]


def test_a_child_can_be_terminated_from_a_restart_that_fails_again_and_again(world: World) -> None:
    """hanging_restart_loop: with a start that fails at once, over and over, the supervisor still answers."""
    top = world.system.supervise("top", world.specs("a", "b"), policy=policy(ONE, 1_000_000))
    world.diary.failing.add("b")
    world.exit("b", "die")
    wait_until(lambda: world.diary.lines().count("try b") > 5, SOON)
    assert states(top)["b"] == "restarting"
    assert refusal(top.delete_child("b")) == "restarting"
    assert counts(top)[:2] == [2, 1]
    top.terminate_child("b").result(SOON)
    assert states(top) == {"a": "running", "b": "stopped"}
    assert top.delete_child("b").result(SOON) is None


def test_a_command_for_a_child_that_is_being_stopped_or_started(world: World) -> None:
    """Every command finds a definite answer while the child is on its way out or in."""
    top = world.system.supervise("top", world.specs("a"))
    late = threading.Event()
    HOLDS.append(late)
    world.system.ref("a").tell(late)
    first, second = top.terminate_child("a"), top.terminate_child("a")
    assert states(top)["a"] == "stopping"
    assert refusal(top.start_child(world.spec("a"))) == "already_started"
    assert refusal(top.restart_child("a")) == "running"
    assert refusal(top.delete_child("a")) == "running"
    late.set()
    assert (first.result(SOON), second.result(SOON)) == (None, None)

    slow = threading.Event()
    HOLDS.append(slow)
    world.diary.plan("a", slow)
    back = top.restart_child("a")
    assert states(top)["a"] == "starting"
    assert refusal(top.restart_child("a")) == "running"
    gone = top.terminate_child("a")
    slow.set()
    gone.result(SOON)
    assert refusal(back) == "terminated"
    assert states(top)["a"] == "stopped"


# --- trees


def test_a_tree_is_restarted_without_what_was_added_at_run_time(world: World) -> None:
    """tree: workers come back alone; a supervisor that gives up takes the tree around it down, and comes back empty."""
    four = Policy(max_restarts=4, period_seconds=3600)
    top = world.system.supervise("top", policy=policy(ALL, 4))
    top.start_child(ChildSpec("sup1", supervisor(specs=world.specs("child1", "child2"), policy=four))).result(SOON)
    top.start_child(ChildSpec("sup2", supervisor(policy=four))).result(SOON)
    top.start_child(ChildSpec("sup3", supervisor(policy=four), "transient")).result(SOON)
    top.terminate_child("sup3").result(SOON)
    assert counts(top) == [3, 2, 3, 0]
    sup1, sup2, sup3 = (SupervisorRef(world.system.registry, f"sup{n}") for n in (1, 2, 3))
    assert (counts(sup1), counts(sup2)) == ([2, 2, 0, 2], [0, 0, 0, 0])
    sup2.start_child(world.spec("child3")).result(SOON)
    sup2.start_child(world.spec("child4")).result(SOON)

    world.exit("child4", "die")
    runs_as(sup2, {"child3": 1, "child4": 2})
    runs_as(sup1, {"child1": 1, "child2": 1})

    world.diary.failing.add("child3")
    world.exit("child3", "die")
    runs_as(top, {"sup1": 2, "sup2": 2, "sup3": 2})
    assert counts(top) == [3, 3, 3, 0]
    assert counts(sup1) == [2, 2, 0, 2]
    assert (counts(sup2), counts(sup3)) == ([0, 0, 0, 0], [0, 0, 0, 0])
    assert world.system.registry.find("child4") is None


@pytest.mark.parametrize("how", ["kill the supervisor", "kill the worker", "exit the worker", "restart the worker"])
def test_a_supervisor_in_the_middle(world: World, how: str) -> None:
    """simple_global_supervisor: whatever is killed in the middle, there is exactly one of each afterwards."""
    three = Policy(ALL, 3)
    worker = ChildSpec("server", world.system.process(ProcessWorker))
    middle = ChildSpec("middle", supervisor(specs=[worker], policy=three), shutdown=2.0)
    top = world.system.supervise("top", [middle], policy=three)
    before = world.system.ref("server").ask(Json("who"), SOON)
    inner = SupervisorRef(world.system.registry, "middle")
    match how:
        case "kill the supervisor":
            nested = top.running("middle")
            assert nested is not None
            assert nested.kill()
            runs_as(top, {"middle": 2})
        case "kill the worker":
            world.system.ref("server").tell(Json("kill"))
            runs_as(inner, {"server": 2})
        case "exit the worker":
            world.system.ref("server").tell(Json("normal"))
            runs_as(inner, {"server": 2})
        case "restart the worker":
            inner.terminate_child("server").result(SOON)
            inner.restart_child("server").result(SOON)
    assert world.system.ref("server").ask(Json("who"), SOON) != before
    assert world.system.stop()
    assert world.system.registry.addresses() == []


def test_escalation_goes_up_as_far_as_budgets_are_spent(world: World, reports: list[Report]) -> None:
    """A supervisor's exit for too many restarts is an exit like any other for the one above, until the top."""
    once = Policy(max_restarts=1, period_seconds=3600)
    deep = ChildSpec("deep", supervisor(specs=world.specs("leaf"), policy=once))
    top = world.system.supervise("top", [ChildSpec("mid", supervisor(specs=[deep], policy=once))], policy=once)
    world.diary.failing.add("leaf")
    world.exit("leaf", "die")
    assert ended(top).kind == "shutdown"
    assert [report.supervisor for report in reports if report.kind == "gave_up"][-1] == "top"
    assert world.system.registry.addresses() == []


def test_a_transient_supervisor_that_gave_up_stays_down(world: World) -> None:
    """The exit for too many restarts has reason shutdown, so a transient supervisor is not started again."""
    none = Policy(max_restarts=0, period_seconds=3600)
    nested = ChildSpec("nested", supervisor(specs=world.specs("leaf"), policy=none), "transient")
    top = world.system.supervise("top", [nested])
    world.exit("leaf", "die")
    wait_until(lambda: states(top) == {"nested": "stopped"}, SOON)
    assert counts(top) == [1, 0, 1, 0]
