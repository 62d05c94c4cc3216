"""OTP's supervisor suite, the cases of simple_one_for_one, which is a dynamic supervisor here.

Each docstring begins with the name of OTP's case.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from otp_world import SOON, ProcessWorker, Worker, World, counts, ended, refusal, rows, runs_as, states

from pop_actors.actors import (
    SHUTDOWN,
    Actor,
    ActorSystem,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Json,
    Policy,
    Report,
    Supervisor,
    SupervisorRef,
    supervisor,
    thread,
)
from support.daemon import wait_until


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def world(reports: list[Report]) -> Iterator[World]:
    with ActorSystem(report=reports.append) as system:
        yield World(system)


def crowd_of(world: World, **policy: Any) -> DynamicSupervisor:
    return world.system.supervise(
        "crowd", kind=DynamicSupervisor, policy=Policy(**{"max_restarts": 2, "period_seconds": 3600, **policy})
    )


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_child_with_nothing_to_do_is_not_kept(world: World, restart: str) -> None:
    """sup_start_ignore_{temporary,permanent}_child_start_child_simple: and the supervisor stops without error."""
    crowd = crowd_of(world)
    world.diary.plan("a", "ignore")
    assert crowd.start_child(world.spec("a", restart)).result(SOON) is None
    assert crowd.start_child(world.spec("b", restart)).result(SOON) == 1
    assert states(crowd) == {"b": "running"}
    assert counts(crowd) == [1, 1, 0, 1]
    assert crowd.stop_and_wait(SOON)
    assert ended(crowd) == SHUTDOWN


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_with_nothing_to_do_any_more_is_forgotten(world: World, restart: str) -> None:
    """simple_one_for_one_restart_ignore: a restart that ignores ends the child."""
    crowd = crowd_of(world)
    crowd.start_child(world.spec("a", restart)).result(SOON)
    world.exit("a", "die")
    runs_as(crowd, {"a": 2})
    world.diary.plan("a", "ignore")
    world.exit("a", "die")
    wait_until(lambda: counts(crowd) == [0, 0, 0, 0], SOON)
    assert crowd.stop_and_wait(SOON)


def test_commands_name_children_by_their_ids(world: World) -> None:
    """child_adm_simple: terminated ones are forgotten at once; a stranger's id is not found."""
    crowd = crowd_of(world)
    assert counts(crowd) == [0, 0, 0, 0]
    crowd.start_child(world.spec("a")).result(SOON)
    crowd.start_child(world.spec("b")).result(SOON)
    assert sorted(rows(crowd)) == ["a", "b"]
    assert refusal(crowd.start_child(world.spec("a"))) == "already_started"
    assert crowd.terminate_child("a").result(SOON) is None
    assert world.system.registry.find("a") is None
    assert counts(crowd) == [1, 1, 0, 1]
    assert refusal(crowd.terminate_child("a")) == "not_found"
    assert refusal(crowd.restart_child("a")) == "not_found"
    assert refusal(crowd.delete_child("a")) == "not_found"


def test_one_is_restarted_alone_and_the_third_exit_is_too_many(world: World) -> None:
    """simple_one_for_one: the base case, and its intensity."""
    crowd = crowd_of(world)
    for name in "ab":
        crowd.start_child(world.spec(name)).result(SOON)
    world.exit("a", "die")
    runs_as(crowd, {"a": 2, "b": 1})
    world.exit("b", "die")
    runs_as(crowd, {"a": 2, "b": 2})
    world.exit("a", "die")
    assert ended(crowd).kind == "shutdown"
    assert world.system.registry.addresses() == []


def test_a_restart_that_never_succeeds_ends_it(world: World) -> None:
    """simple_one_for_one_escalation: with everybody else."""
    crowd = crowd_of(world, max_restarts=4)
    for name in "ab":
        crowd.start_child(world.spec(name)).result(SOON)
    world.diary.failing.add("a")
    world.exit("a", "die")
    assert ended(crowd).kind == "shutdown"
    assert world.system.registry.addresses() == []


def test_children_stop_at_the_same_time_and_the_deaf_are_killed(world: World, reports: list[Report]) -> None:
    """simple_one_for_one_shutdown, sup_stop_timeout_dynamic: nobody waits for a sibling's stop; who is late is
    killed."""
    crowd = crowd_of(world)
    gate = threading.Barrier(3)

    class Together(Actor):
        def on_stop(self) -> None:
            gate.wait(SOON)  # opens only when all three are on their way out

    for name in "abc":
        crowd.start_child(ChildSpec(name, thread(Together), shutdown=SOON)).result(SOON)
    crowd.start_child(ChildSpec("deaf", world.system.process(ProcessWorker), shutdown=0.05)).result(SOON)
    world.system.ref("deaf").tell(Json("deaf"))
    assert crowd.stop_and_wait(SOON)
    assert ended(crowd) == SHUTDOWN
    assert [(r.child, str(r.reason)) for r in reports if r.kind == "shutdown_error"] == [("deaf", "signal: SIGKILL")]


def test_brutal_kill_of_a_crowd(world: World) -> None:
    """sup_stop_brutal_kill_dynamic: all gone, and it is no error."""
    crowd = crowd_of(world)
    starts = [
        crowd.start_child(ChildSpec(f"p{n}", world.system.process(ProcessWorker), "temporary", "brutal_kill"))
        for n in range(3)
    ]
    for start in starts:
        start.result(SOON)
    assert crowd.stop_and_wait(SOON)
    assert ended(crowd) == SHUTDOWN


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_children_that_end_for_other_reasons_during_the_stop(world: World, restart: str) -> None:
    """sup_stop_non_shutdown_exit_dynamic: the supervisor's reason is shutdown all the same, and nobody comes back."""
    crowd = crowd_of(world)
    late = threading.Event()
    for how in ("normal", "shutdown", "shutdown because", "die"):
        name = how.replace(" ", "-")
        crowd.start_child(world.spec(name, restart)).result(SOON)
        world.system.ref(name).tell(late)
        world.system.ref(name).tell(how)
    crowd.request_stop()
    wait_until(lambda: set(states(crowd).values()) == {"stopping"}, SOON)
    late.set()
    assert ended(crowd) == SHUTDOWN
    assert sum(line.startswith("try") for line in world.diary.take()) == 4


@pytest.mark.parametrize("kind", ["thread", "supervisor"])
def test_counting_a_crowd(world: World, kind: str) -> None:
    """count_children, count_children_supervisor: of workers, and of supervisors."""
    size = 200
    crowd = crowd_of(world, max_restarts=2)
    start = thread(Actor) if kind == "thread" else supervisor()
    for future in [crowd.start_child(ChildSpec(f"c{n}", start, "temporary")) for n in range(size)]:
        future.result(SOON)
    assert counts(crowd) == ([size, size, 0, size] if kind == "thread" else [size, size, size, 0])
    assert len(rows(crowd)) == size
    for n in range(size):
        child = crowd.running(f"c{n}")
        assert child is not None
        child.request_stop()
    wait_until(lambda: counts(crowd) == [0, 0, 0, 0], SOON)


def test_counting_while_some_are_in_their_restart_loop(world: World) -> None:
    """count_restarting_children: they are specs, and not active; terminated, they are gone."""
    crowd = crowd_of(world, max_restarts=1_000_000)
    for name in "abc":
        crowd.start_child(world.spec(name, backoff=Backoff(0.01, 0.01))).result(SOON)
    for name in "ab":
        world.diary.failing.add(name)
        world.exit(name, "die")
    wait_until(lambda: counts(crowd) == [3, 1, 0, 3], SOON)
    assert states(crowd) == {"a": "restarting", "b": "restarting", "c": "running"}
    world.diary.failing.clear()
    wait_until(lambda: counts(crowd) == [3, 3, 0, 3], SOON)
    for left, name in ((2, "c"), (1, "a"), (0, "b")):
        crowd.terminate_child(name).result(SOON)
        assert counts(crowd) == [left, left, 0, left]


def test_a_child_in_its_restart_loop_can_be_terminated_and_the_supervisor_stopped(world: World) -> None:
    """hanging_restart_loop_simple."""
    crowd = crowd_of(world, max_restarts=8)
    crowd.start_child(world.spec("a", backoff=Backoff(3600, 3600))).result(SOON)
    world.exit("a", "die")
    wait_until(lambda: states(crowd) == {"a": "restarting"}, SOON)
    assert counts(crowd) == [1, 0, 0, 1]
    assert refusal(crowd.restart_child("a")) == "restarting"
    assert refusal(crowd.delete_child("a")) == "restarting"
    crowd.terminate_child("a").result(SOON)
    assert counts(crowd) == [0, 0, 0, 0]
    crowd.start_child(world.spec("a", backoff=Backoff(3600, 3600))).result(SOON)
    world.exit("a", "die")
    wait_until(lambda: states(crowd) == {"a": "restarting"}, SOON)
    assert crowd.stop_and_wait(SOON)


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("how", ["normal", "die", "by hand"])
def test_nothing_is_kept_of_a_temporary_child(world: World, kind: type[Supervisor], how: str) -> None:
    """do_not_save_start_parameters_for_temporary_children, do_not_save_child_specs_for_temporary_children,
    simple_one_for_one_corruption: what it was started with goes with it."""

    class Large:
        pass

    class Holder(Worker):
        def __init__(self, large: Large, **more: Any) -> None:
            super().__init__(**more)

    top = world.system.supervise("top", kind=kind)
    large = Large()
    trace = weakref.ref(large)
    for _ in range(2):
        spec = ChildSpec("a", thread(Holder, large=large, diary=world.diary, name="a"), "temporary")
        top.start_child(spec).result(SOON)
        if how == "by hand":
            top.terminate_child("a").result(SOON)
        else:
            world.exit("a", how)
        wait_until(lambda: counts(top) == [0, 0, 0, 0], SOON)
    del large, spec

    def is_collected() -> bool:
        gc.collect()
        return trace() is None

    wait_until(is_collected, SOON, "what the child was started with to be let go")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
def test_no_more_children_than_allowed(world: World, kind: type[Supervisor]) -> None:
    """max_children: one more is refused; a place is free again once a child is forgotten."""
    top = world.system.supervise("top", kind=kind, policy=Policy(max_children=2))
    for name in "ab":
        top.start_child(world.spec(name, "temporary")).result(SOON)
    assert refusal(top.start_child(world.spec("c"))) == "max_children"
    world.exit("a", "die")
    wait_until(lambda: counts(top)[0] == 1, SOON)
    top.start_child(world.spec("c")).result(SOON)
    assert sorted(rows(top)) == ["b", "c"]


def test_a_nested_crowd_comes_back_empty(world: World) -> None:
    """tree, with a dynamic supervisor: what was added at run time is not known to its successor."""
    none = Policy(max_restarts=0)
    top = world.system.supervise(
        "top", [ChildSpec("crowd", supervisor(DynamicSupervisor, policy=none, prefix="crowd/"))]
    )
    crowd = SupervisorRef(world.system.registry, "crowd")
    crowd.start_child(world.spec("a")).result(SOON)
    world.exit("crowd/a", "die")
    runs_as(top, {"crowd": 2})
    assert counts(crowd) == [0, 0, 0, 0]
