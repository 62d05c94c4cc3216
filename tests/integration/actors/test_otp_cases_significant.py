"""OTP's supervisor suite, the cases of significant children: which exits end the supervisor.

Each docstring begins with the name of OTP's case.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from otp_world import SOON, World, ended, refusal, runs_as, states

from pop_actors.actors import (
    ActorSystem,
    AutoShutdown,
    ChildSpec,
    DynamicSupervisor,
    Policy,
    Strategy,
    Supervisor,
    SupervisorRef,
    check_child_specs,
    supervisor,
)
from support.daemon import wait_until

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
EXITS = ["normal", "shutdown", "shutdown because", "die"]


@pytest.fixture
def world() -> Iterator[World]:
    with ActorSystem() as system:
        yield World(system)


def made(world: World, auto: AutoShutdown | str, restart: str, strategy: Strategy | str = "one_for_one") -> Supervisor:
    """Two significant children and one that is not."""
    specs = [world.spec("one", restart, significant=True), world.spec("two", restart, significant=True)]
    return world.system.supervise(
        "top",
        [*specs, world.spec("three", restart)],
        policy=Policy(strategy, 5, auto_shutdown=auto),  # type: ignore[arg-type]
    )


def test_combinations_that_make_no_sense_are_refused(world: World) -> None:
    """check_specs: a permanent child is never significant, and none is where auto_shutdown is never."""
    with pytest.raises(ValueError, match="permanent"):
        world.spec("x", "permanent", significant=True)
    significant = world.spec("x", "transient", significant=True)
    with pytest.raises(ValueError, match="auto_shutdown"):
        check_child_specs([significant], Policy())
    with pytest.raises(ValueError, match="auto_shutdown"):
        world.system.supervise("top", [significant])
    top = world.system.supervise("top")
    assert refusal(top.start_child(significant)) == "bad_spec"


@pytest.mark.parametrize("auto", [ANY, ALL])
def test_dynamic_supervisors_know_no_auto_shutdown(world: World, auto: AutoShutdown) -> None:
    """significant_simple: the combination is refused."""
    with pytest.raises(ValueError, match="auto_shutdown"):
        world.system.supervise("crowd", kind=DynamicSupervisor, policy=Policy(auto_shutdown=auto))
    with pytest.raises(ValueError, match="auto_shutdown"):
        Policy(dynamic=True, auto_shutdown=auto)


@pytest.mark.parametrize("auto", [ANY, ALL])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("how", EXITS)
def test_children_that_are_not_significant_end_nothing(
    world: World, auto: AutoShutdown, restart: str, how: str
) -> None:
    """nonsignificant_temporary, nonsignificant_transient: whatever their exits."""
    top = made(world, auto, restart)
    world.exit("three", how)
    if restart == "transient" and how == "die":
        runs_as(top, {"one": 1, "two": 1, "three": 2})
    else:
        runs_as(top, {"one": 1, "two": 1})
    assert top.exit_reason is None


@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_first_significant_exit_for_good_ends_it(world: World, restart: str, how: str, strategy: Strategy) -> None:
    """significant_temporary, significant_transient, any: an abnormal exit of a transient child is a restart, and no
    end."""
    top = made(world, ANY, restart, strategy)
    world.exit("one", how)
    if restart == "transient" and how == "die":
        with_it = 1 if strategy == "one_for_one" else 2
        runs_as(top, {"one": 2, "two": with_it, "three": with_it})
        world.exit("one", "normal")
    reason = ended(top)
    assert reason.kind == "shutdown"
    assert "one" in reason.detail
    assert world.system.registry.addresses() == []


@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_last_significant_exit_for_good_ends_it(world: World, restart: str, strategy: Strategy) -> None:
    """significant_temporary, significant_transient, all: the first of two is not enough."""
    top = made(world, ALL, restart, strategy)
    world.exit("one", "normal")
    runs_as(top, {"two": 1, "three": 1})
    world.exit("two", "shutdown")
    assert ended(top).kind == "shutdown"


@pytest.mark.parametrize("auto", [ANY, ALL])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
def test_terminating_significant_children_by_hand_ends_nothing(world: World, auto: AutoShutdown, restart: str) -> None:
    """significant_temporary, significant_transient: terminate_child is no exit by itself, not even the last one's."""
    top = made(world, auto, restart)
    for name in ("one", "two"):
        top.terminate_child(name).result(SOON)
    runs_as(top, {"three": 1})
    assert top.exit_reason is None


def test_one_terminated_by_hand_and_the_other_by_itself(world: World) -> None:
    """all_significant: who was terminated by hand is not active, so the other one is the last."""
    top = made(world, ALL, "transient")
    top.terminate_child("one").result(SOON)
    world.exit("two", "normal")
    assert ended(top).kind == "shutdown"


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("auto", [ANY, ALL])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
def test_significant_bystanders_end_nothing(world: World, strategy: Strategy, auto: AutoShutdown, restart: str) -> None:
    """significant_bystander: children taken down with a sibling did not end by themselves, were they the last."""
    specs: list[Any] = [
        world.spec("one", restart, significant=True),
        world.spec("two", "transient"),
        world.spec("three", restart, significant=True),
    ]
    top = world.system.supervise("top", specs, policy=Policy(strategy, 5, auto_shutdown=auto))
    world.exit("two", "die")
    with_it = {Strategy.ONE_FOR_ONE: [], Strategy.REST_FOR_ONE: ["three"], Strategy.ONE_FOR_ALL: ["one", "three"]}
    expected = {"one": 1, "two": 2, "three": 1}
    for name in with_it[strategy]:
        if restart == "temporary":
            del expected[name]
        else:
            expected[name] = 2
    runs_as(top, expected)
    assert top.exit_reason is None


def test_a_significant_child_with_nothing_to_do_ends_nothing(world: World) -> None:
    """ignore is no exit."""
    world.diary.plan("one", "ignore")
    top = made(world, ANY, "transient")
    assert states(top) == {"one": "stopped", "two": "running", "three": "running"}
    world.exit("two", "normal")
    assert ended(top).kind == "shutdown"


@pytest.mark.parametrize("auto", [ANY, ALL])
def test_a_significant_child_that_is_done_before_its_siblings_have_started_fails_no_start(
    world: World, auto: AutoShutdown
) -> None:
    """auto_shutdown and init: exits count from the supervisor's own start on; it starts, and then shuts down."""
    slow = threading.Event()
    world.diary.plan("two", slow)
    started: Future[Supervisor] = Future()

    def start() -> None:
        specs = [world.spec("one", "temporary", significant=True), world.spec("two")]
        started.set_result(world.system.supervise("top", specs, policy=Policy(auto_shutdown=auto)))

    threading.Thread(target=start).start()
    wait_until(lambda: "try two" in world.diary.lines(), SOON)
    world.exit("one", "normal")
    slow.set()
    assert ended(started.result(SOON)).kind == "shutdown"
    assert world.diary.lines()[-2:] == ["up two", "down two"]


@pytest.mark.parametrize("is_significant", [True, False])
def test_auto_shutdown_is_passed_up_by_significant_supervisors(world: World, is_significant: bool) -> None:
    """significant_escalation: the end of a supervisor is the exit of a child for the one above."""
    any_policy = Policy(auto_shutdown=ANY)
    nested = ChildSpec("nested", supervisor(policy=any_policy), "transient", significant=is_significant)
    top = world.system.supervise("top", [nested], policy=any_policy)
    inner = SupervisorRef(world.system.registry, "nested")
    inner.start_child(world.spec("leaf", "transient", significant=True)).result(SOON)
    world.exit("leaf", "normal")
    if is_significant:
        assert ended(top).kind == "shutdown"
    else:
        wait_until(lambda: states(top) == {"nested": "stopped"}, SOON)
        assert top.exit_reason is None


def test_a_permanent_supervisor_that_shut_itself_down_comes_back(world: World) -> None:
    """auto_shutdown and a permanent spec: a restart, with the children of its list."""
    leaf = world.spec("leaf", "transient", significant=True)
    top = world.system.supervise(
        "top", [ChildSpec("nested", supervisor(specs=[leaf], policy=Policy(auto_shutdown=ANY)))]
    )
    world.exit("leaf", "normal")
    runs_as(top, {"nested": 2})
    runs_as(SupervisorRef(world.system.registry, "nested"), {"leaf": 1})
