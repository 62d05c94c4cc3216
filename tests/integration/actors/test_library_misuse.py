"""What a user of the actor library gets wrong: told at once, with what would be right, and nobody else is hurt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from otp_world import SOON, World, counts, ended, refusal, runs_as, states

from pop_actors.actors import (
    Actor,
    ActorSystem,
    Backoff,
    ChildSpec,
    Exited,
    ExitReason,
    Json,
    Launch,
    Policy,
    ProcessActor,
    Question,
    Refused,
    StartFailed,
    StartRefused,
    Strategy,
    Supervisor,
    supervisor,
    thread,
)
from support.daemon import wait_until


class Plain(Actor):
    def receive(self, message: object) -> object:
        return message


class Forgetful(Actor):
    def __init__(self) -> None:  # calls no super().__init__()
        pass


class Picky(ProcessActor):
    """Answers numbers; refuses words; fails on the rest."""

    def on_receive(self, message: object) -> None:
        if not isinstance(message, Question):
            super().on_receive(message)
            return
        asked = message.message.value if isinstance(message.message, Json) else None
        if isinstance(asked, str):
            raise Refused("no_number", f"{asked} is no number")
        message.answer(asked + 1)  # TypeError where it is nothing to add to


class Idle(ProcessActor):
    def on_start(self) -> None:
        self.stop()


@pytest.fixture
def world() -> Iterator[World]:
    with ActorSystem() as system:
        yield World(system)


@pytest.fixture
def system(world: World) -> ActorSystem:
    return world.system


SPEC = ChildSpec("a", thread(Plain))


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda _: thread(dict), "a class of Actor"),  # type: ignore[arg-type]
        (lambda _: thread(Plain()), "a class of Actor"),  # type: ignore[arg-type]
        (lambda _: thread(Picky), "a class of Actor"),  # type: ignore[arg-type]
        (lambda _: supervisor(Plain), "a class of Supervisor"),  # type: ignore[arg-type]
        (lambda _: supervisor([SPEC]), r"specs=\[…\]"),  # type: ignore[arg-type]
        (lambda system: system.process(Plain), "a class of ProcessActor"),
        (lambda system: system.supervise("top", kind=Plain), "a class of Supervisor"),
        (lambda system: system.supervise("top", SPEC), "a list of ChildSpecs"),
        (lambda system: system.supervise("top", [("a", thread(Plain))]), "a ChildSpec"),
        (lambda system: system.supervise("top", [SPEC], policy={"strategy": "one_for_all"}), r"a Policy\("),
        (lambda system: system.supervise("top", [SPEC], policy=Strategy.ONE_FOR_ALL), r"a Policy\("),
        (lambda system: system.supervise("", [SPEC]), "an address"),
        (lambda system: system.spawn(Forgetful, "a"), r"super\(\).__init__\(\)"),
        (lambda _: ActorSystem(report="loudly"), "takes a Report"),  # type: ignore[arg-type]
        (lambda _: Exited("normal"), "an ExitReason"),  # type: ignore[arg-type]
        (lambda _: StartFailed("normal"), "an ExitReason"),  # type: ignore[arg-type]
        (lambda _: ExitReason("bored"), "normal, shutdown, exception"),  # type: ignore[arg-type]
        (lambda _: Backoff(minimum="1"), "minimum is a number"),  # type: ignore[arg-type]
        (lambda _: Backoff(reset_after=float("nan")), "reset_after is a number"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(system: ActorSystem, mistake: Callable[[Any], Any], says: str) -> None:
    """TypeError or ValueError, in the caller's thread, with what would be right."""
    with pytest.raises((TypeError, ValueError), match=says):
        mistake(system)
    assert system.registry.addresses() == []


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"mailbox_policy": "drop"}, "block, refuse, drop_oldest"),
        ({"mailbox_limit": 0}, "from 1 on"),
        ({"mailbox_limit": "many"}, "from 1 on"),
        ({"mailbox_policy": "drop_oldest"}, "needs may_be_lost"),
        ({"mailbox_policy": "drop_oldest", "may_be_lost": int}, "a frozenset of message types"),
    ],
)
def test_a_mailbox_there_is_not_is_refused(system: ActorSystem, attributes: dict[str, Any], says: str) -> None:
    """Before the actor starts."""
    with pytest.raises(ValueError, match=says):
        system.spawn(type("Odd", (Plain,), attributes), "odd")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (thread(Forgetful), r"super\(\).__init__\(\)"),
        (thread(Plain, silly=1), "silly"),
        (lambda _launch: None, "returns the child it launched"),
        (supervisor(specs=[SPEC, SPEC]), "two children are called a"),
        (supervisor(silly=1), "silly"),
    ],
)
def test_a_child_that_cannot_be_made_is_a_failed_start_at_once(
    world: World, start: Callable[[Launch], Any], says: str
) -> None:
    """The supervisor and its other children live on."""
    top = world.system.supervise("top", world.specs("sibling"))
    with pytest.raises(Refused, match=says) as refused:
        top.start_child(ChildSpec("child", start)).result(SOON)
    assert refused.value.code == "start_failed"
    assert states(top) == {"sibling": "running"}
    with pytest.raises(StartRefused, match=says):
        world.system.supervise("other", [ChildSpec("child", start)])


def test_an_end_for_no_reason_there_is_fails_the_actor_alone(world: World) -> None:
    """Its supervisor hears of a TypeError and starts it again."""

    class Sloppy(Actor):
        def receive(self, message: object) -> object:
            self.end("normal")  # type: ignore[arg-type]
            return None

    top = world.system.supervise("top", [*world.specs("sibling"), ChildSpec("sloppy", thread(Sloppy))])
    world.system.ref("sloppy").tell("go")
    runs_as(top, {"sibling": 1, "sloppy": 2})


def test_a_notice_there_is_not_hurts_whoever_sends_it(world: World) -> None:
    """A starter of one's own hears a TypeError; the supervisor lives on."""

    def start(launch: Launch) -> Actor:
        launch.notify("started")  # type: ignore[arg-type]
        raise AssertionError("not reached")

    top = world.system.supervise("top", world.specs("sibling"))
    with pytest.raises(Refused, match="is notified of Started"):
        top.start_child(ChildSpec("child", start)).result(SOON)
    assert states(top) == {"sibling": "running"}


@pytest.mark.parametrize("kind", [Plain, Supervisor])
def test_an_end_of_a_supervisor_for_no_reason_there_is(system: ActorSystem, kind: type[Actor]) -> None:
    """A TypeError for whoever calls it."""
    actor = system.spawn(kind, "it")
    with pytest.raises(TypeError, match="an ExitReason"):
        actor.end("normal")  # type: ignore[arg-type]
    assert system.registry.find("it") is actor


def test_an_address_is_given_once(system: ActorSystem) -> None:
    """The second one is refused; the first one keeps its messages."""
    first = system.spawn(Plain, "it")
    with pytest.raises(ValueError, match="it is taken"):
        system.spawn(Plain, "it")
    with pytest.raises(ValueError, match="it is taken"):
        system.supervise("it")
    assert system.registry.find("it") is first


def test_a_child_that_takes_over_an_address_is_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Ids are unique among siblings only: two supervisors without prefixes can give one address twice."""
    top = world.system.supervise("top", world.specs("worker"))
    other = world.system.supervise("other", world.specs("worker"))
    assert any("worker" in record.message and "had the address" in record.message for record in caplog.records)
    assert world.system.registry.find("worker") is other.running("worker")
    assert states(top) == {"worker": "running"}


def test_a_stopped_system_starts_nothing() -> None:
    """Neither supervisors nor actors."""
    system = ActorSystem()
    system.stop()
    for start in (lambda: system.supervise("top", [SPEC]), lambda: system.spawn(Plain, "a")):
        with pytest.raises(RuntimeError, match="is stopped"):
            start()


def test_an_actor_can_be_ended_from_another_thread(system: ActorSystem) -> None:
    """Also while it waits for a message."""
    actor = system.spawn(Plain, "it")
    actor.end()
    assert actor.wait_ended(SOON)


def test_a_child_may_ask_its_own_supervisor(world: World) -> None:
    """Also to terminate it, as long as it does not wait for that."""

    class Asks(Actor):
        def __init__(self, top: list[Supervisor]) -> None:
            super().__init__()
            self._top = top

        def receive(self, message: object) -> object:
            if message == "count":
                return self._top[0].count_children().result(SOON)
            self._top[0].terminate_child("asks")
            return None

    box: list[Supervisor] = []
    top = world.system.supervise("top", [ChildSpec("asks", thread(Asks, top=box))])
    box.append(top)
    assert world.system.ref("asks").ask("count", SOON)["active"] == 1
    world.system.ref("asks").tell("end me")
    wait_until(lambda: states(top) == {"asks": "stopped"}, SOON)


def test_a_system_can_be_stopped_by_one_of_its_actors() -> None:
    """By a thread of its own, since the actor is to stop, too. Whoever stops it as well waits for the same end."""
    system = ActorSystem()

    class Stops(Actor):
        def receive(self, message: object) -> object:
            threading.Thread(target=system.stop).start()
            return None

    top = system.supervise("top", [ChildSpec("a", thread(Stops))])
    system.ref("a").tell("enough")
    assert ended(top) == ExitReason("shutdown")
    assert system.stop()


class TestProcesses:
    def test_a_question_it_fails_on_is_answered_and_not_asked_again(self, world: World) -> None:
        """Else the next incarnation would fail on it, too, until the supervisor gave up."""
        top = world.system.supervise("top", [ChildSpec("picky", world.system.process(Picky))])
        picky = world.system.ref("picky")
        with pytest.raises(Refused, match="TypeError") as refused:
            picky.ask(Json(None), SOON)
        assert refused.value.code == "failed"
        runs_as(top, {"picky": 2})
        assert picky.ask(Json(1), SOON) == 2

    def test_a_question_it_refuses_is_answered_and_it_lives_on(self, world: World) -> None:
        """`Refused` is an answer, as with threads."""
        top = world.system.supervise("top", [ChildSpec("picky", world.system.process(Picky))])
        with pytest.raises(Refused, match="one is no number") as refused:
            world.system.ref("picky").ask(Json("one"), SOON)
        assert refused.value.code == "no_number"
        assert world.system.ref("picky").ask(Json(1), SOON) == 2
        runs_as(top, {"picky": 1})

    def test_one_with_nothing_to_do_is_no_failure_and_no_child(self, world: World) -> None:
        """`stop()` in `on_start` is what `end()` there is for threads."""
        top = world.system.supervise("top", policy=Policy(max_restarts=0))
        assert top.start_child(ChildSpec("idle", world.system.process(Idle))).result(SOON) is None
        assert counts(top) == [1, 0, 0, 1]

    @pytest.mark.parametrize("entry", ["no_such_module:Actor", "os:NoActor", "os", "json:JSONEncoder", ""])
    def test_an_entry_that_leads_nowhere_is_a_failed_start(self, world: World, entry: str) -> None:
        """With the reason, and the supervisor lives on."""
        top = world.system.supervise("top")
        assert refusal(top.start_child(ChildSpec("p", world.system.process(entry)))) == "start_failed"
        assert counts(top) == [0, 0, 0, 0]
