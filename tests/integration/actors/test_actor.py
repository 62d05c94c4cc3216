"""Thread actors for real: every way to die is heard with a reason, and nobody who asked waits for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any

import pytest

from pop_actors.actors import Actor, Beat, Exited, ExitReason, Ping, Registry, Started, StartFailed
from pop_actors.actors.child import ChildNotice
from pop_actors.errors import AnswerFailed, AskTimeout, Refused, StartRefused, Unavailable

SOON = 5.0


class Parent:
    """Hears what becomes of an actor."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[ChildNotice] = queue.SimpleQueue()

    def __call__(self, notice: ChildNotice) -> None:
        self._heard.put(notice)

    def next(self) -> ChildNotice:
        return self._heard.get(timeout=SOON)

    def has_more(self) -> bool:
        return not self._heard.empty()


class Obedient(Actor):
    """Does what it is told: a message is a function of the actor; its result is the answer."""

    def __init__(self, at_start: Callable[[], None] | None = None, at_stop: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._at_start = at_start
        self._at_stop = at_stop

    def on_start(self) -> None:
        if self._at_start is not None:
            self._at_start()

    def on_stop(self) -> None:
        if self._at_stop is not None:
            self._at_stop()

    def receive(self, message: Any) -> object:
        return message(self) if callable(message) else super().receive(message)


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*_: object) -> None:
        raise error

    return failing


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def parent() -> Parent:
    return Parent()


@pytest.fixture
def actor(registry: Registry, parent: Parent) -> Iterator[Obedient]:
    actor = Obedient.start_and_wait("it", registry, parent)
    assert parent.next() == Started()
    yield actor
    assert actor.stop_and_wait(SOON)


@pytest.fixture
def held(actor: Obedient) -> Iterator[threading.Event]:
    """The actor is busy until this is set."""
    release, is_busy = threading.Event(), threading.Event()

    def hold(_: Actor) -> None:
        is_busy.set()
        release.wait(SOON)

    actor.tell(hold)
    assert is_busy.wait(SOON)
    yield release
    release.set()


class TestDeaths:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ValueError("bad"), ExitReason("exception", "ValueError: bad")),
            (SystemExit(3), ExitReason("exit", "SystemExit: 3")),
            (KeyboardInterrupt(), ExitReason("exception", "KeyboardInterrupt: ")),
        ],
    )
    def test_an_exception_on_a_tell_ends_the_actor_and_says_why(
        self, actor: Obedient, parent: Parent, error: BaseException, reason: ExitReason
    ) -> None:
        """Any exception, not only `Exception`; the parent hears it once."""
        actor.tell(fail(error))
        assert parent.next() == Exited(reason)
        assert actor.wait_ended(SOON)
        assert not parent.has_more()

    @pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
    def test_an_exception_on_an_ask_goes_to_the_asker_and_to_the_parent(
        self, actor: Obedient, parent: Parent, error: BaseException
    ) -> None:
        """The asker does not hang, and the failure counts as one of the actor."""
        with pytest.raises(AnswerFailed, match=type(error).__name__):
            actor.request(fail(error)).result(SOON)
        assert isinstance(parent.next(), Exited)

    def test_a_system_exit_leaves_the_other_actors_alone(self, actor: Obedient, registry: Registry) -> None:
        """Pykka stops every actor of the process then."""
        other = Obedient.start_and_wait("other", registry)
        actor.tell(fail(SystemExit(1)))
        assert actor.wait_ended(SOON)
        assert other.request(lambda _: "alive").result(SOON) == "alive"
        assert other.stop_and_wait(SOON)

    @pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
    def test_an_exception_at_the_start_is_a_failed_start(
        self, registry: Registry, parent: Parent, error: BaseException
    ) -> None:
        """One notice, no `Exited`, nobody registered, nothing cleaned up that was never made."""
        cleaned: list[str] = []
        actor = Obedient.spawn("it", registry, parent, at_start=fail(error), at_stop=lambda: cleaned.append("x"))
        notice = parent.next()
        assert isinstance(notice, StartFailed)
        assert type(error).__name__ in notice.reason.detail
        assert actor.wait_ended(SOON)
        assert not parent.has_more()
        assert not registry.is_registered("it")
        assert cleaned == []

    def test_a_blocking_start_raises_what_went_wrong(self, registry: Registry) -> None:
        """For the composition root."""
        with pytest.raises(StartRefused, match="no disk"):
            Obedient.start_and_wait("it", registry, at_start=fail(OSError("no disk")))

    def test_a_blocking_start_gives_up_in_time(self, registry: Registry) -> None:
        """And the late starter is told to stop."""
        release = threading.Event()
        with pytest.raises(StartRefused, match="within"):
            Obedient.start_and_wait("it", registry, timeout=0.05, at_start=lambda: release.wait(SOON) and None)
        release.set()

    def test_an_exception_in_the_clean_up_is_the_reason_of_the_exit(self, registry: Registry, parent: Parent) -> None:
        """An orderly stop that failed was not one."""
        actor = Obedient.start_and_wait("it", registry, parent, at_stop=fail(ValueError("left open")))
        assert parent.next() == Started()
        assert actor.stop_and_wait(SOON)
        assert parent.next() == Exited(ExitReason("exception", "ValueError: left open"))

    def test_an_actor_that_failed_still_cleans_up(self, registry: Registry) -> None:
        """Its successor finds the files closed and the threads gone."""
        cleaned = threading.Event()
        actor = Obedient.start_and_wait("it", registry, at_stop=cleaned.set)
        actor.tell(fail(ValueError("bad")))
        assert cleaned.wait(SOON)

    @pytest.mark.parametrize(("ending", "kind"), [(lambda actor: actor.end(), "normal"), (None, "shutdown")])
    def test_ending_by_oneself_is_normal_and_being_asked_to_is_shutdown(
        self, actor: Obedient, parent: Parent, ending: Callable[[Actor], None] | None, kind: str
    ) -> None:
        """The two good ways to go."""
        if ending is not None:
            actor.tell(ending)
        else:
            actor.request_stop()
        assert parent.next() == Exited(ExitReason(kind))

    def test_a_polite_stop_comes_after_what_waits_already(self, actor: Obedient, held: threading.Event) -> None:
        """Nothing that was accepted before is lost."""
        answers = [actor.request(lambda _, n=number: n) for number in range(100)]
        actor.request_stop(message=lambda _: None)
        held.set()
        assert [answer.result(SOON) for answer in answers] == list(range(100))
        assert actor.wait_ended(SOON)


class TestAnswers:
    def test_a_declared_refusal_goes_to_the_asker_and_the_actor_lives_on(self, actor: Obedient, parent: Parent) -> None:
        """It comes whole, as it was raised."""
        refusal = Refused("not_now", "come back later", {"after": 3})
        with pytest.raises(Refused) as caught:
            actor.request(fail(refusal)).result(SOON)
        assert caught.value is refusal
        assert actor.request(lambda _: 1).result(SOON) == 1
        assert not parent.has_more()

    def test_a_refused_tell_ends_nobody(self, actor: Obedient) -> None:
        """There is nobody to hear the no; it is logged."""
        actor.tell("unknown")
        with pytest.raises(Refused, match="takes no str"):
            actor.request("unknown").result(SOON)

    def test_a_future_answers_once_it_is_done(self, actor: Obedient) -> None:
        """The actor goes on to other messages meanwhile."""
        later: Future[str] = Future()
        answer = actor.request(lambda _: later)
        assert actor.request(lambda _: "meanwhile").result(SOON) == "meanwhile"
        assert not answer.done()
        assert actor.snapshot()["unanswered"] == 1
        later.set_result("at last")
        assert answer.result(SOON) == "at last"

    def test_two_askers_may_wait_for_one_future(self, actor: Obedient) -> None:
        """A barrier shared by many is answered to each."""
        later: Future[str] = Future()
        answers = [actor.request(lambda _: later) for _ in range(3)]
        later.set_result("done")
        assert [answer.result(SOON) for answer in answers] == ["done"] * 3

    @pytest.mark.parametrize(
        ("error", "kind"), [(Refused("no", "no"), Refused), (KeyError("x"), AnswerFailed), (None, AnswerFailed)]
    )
    def test_a_future_that_fails_is_an_answer_and_the_actor_lives_on(
        self, actor: Obedient, error: Exception | None, kind: type[Exception]
    ) -> None:
        """Refusals as they are, the rest wrapped, a cancelled one as well."""
        later: Future[str] = Future()
        answer = actor.request(lambda _: later)
        if error is None:
            later.cancel()
        else:
            later.set_exception(error)
        with pytest.raises(kind):
            answer.result(SOON)
        assert actor.request(lambda _: 1).result(SOON) == 1

    def test_everybody_who_waits_is_told_when_the_actor_dies(self, actor: Obedient, held: threading.Event) -> None:
        """Those with a deferred answer, and those still in the mailbox."""
        later: Future[str] = Future()
        deferred = actor.request(lambda _: later)
        actor.tell(fail(ValueError("bad")))
        queued = [actor.request(lambda _: 1) for _ in range(5)]
        held.set()
        for answer in [deferred, *queued]:
            with pytest.raises(Unavailable):
                answer.result(SOON)
        later.set_result("too late")

    def test_no_ask_is_lost_however_it_races_with_the_end(self, registry: Registry) -> None:
        """Asked a moment before, during or after the end, each gets an answer or a no."""
        for _ in range(50):
            actor = Obedient.start_and_wait("it", registry)
            gate = threading.Barrier(5)
            answers: list[Future[Any]] = []

            def ask(actor: Actor = actor, gate: threading.Barrier = gate, answers: list[Any] = answers) -> None:
                gate.wait(SOON)
                answers.extend(actor.request(lambda _: 1) for _ in range(20))

            askers = [threading.Thread(target=ask) for _ in range(4)]
            for asker in askers:
                asker.start()
            gate.wait(SOON)
            actor.request_stop()
            for asker in askers:
                asker.join(SOON)
            assert len(answers) == 80
            assert wait(answers, SOON).not_done == set()

    def test_an_asker_that_gave_up_harms_nobody(self, actor: Obedient, held: threading.Event) -> None:
        """A cancelled future is left alone."""
        given_up = actor.request(lambda _: 1)
        assert given_up.cancel()
        held.set()
        assert actor.request(lambda _: 2).result(SOON) == 2


class TestMailbox:
    def test_a_ping_is_answered_by_the_base_with_what_waits(self, actor: Obedient, held: threading.Event) -> None:
        """The loop turns, whatever the subclass does."""
        answer = actor.request(Ping())
        actor.tell(lambda _: None)
        held.set()
        assert answer.result(SOON) == 1

    def test_pinged_by_its_parent_it_beats(self, actor: Obedient, parent: Parent) -> None:
        """The supervisor's heartbeat of a thread."""
        actor.ping()
        assert parent.next() == Beat()

    def test_it_beats_however_much_waits(self, actor: Obedient, parent: Parent, held: threading.Event) -> None:
        """A long backlog is no hang: the loop turns, so the beat comes after the present message."""
        second, is_at_second = threading.Event(), threading.Event()
        actor.tell(lambda _: is_at_second.set() or second.wait(SOON))
        actor.ping()
        held.set()
        assert is_at_second.wait(SOON)
        assert parent.next() == Beat()
        second.set()

    def test_pings_do_not_pile_up(self, actor: Obedient, parent: Parent, held: threading.Event) -> None:
        """An actor that is busy for long is pinged many times, and finds one of them."""
        before = actor.depth()
        for _ in range(100):
            actor.ping()
        assert actor.depth() == before + 1
        held.set()
        assert parent.next() == Beat()

    def test_a_snapshot_tells_what_it_is_doing(self, actor: Obedient, held: threading.Event) -> None:
        """How much waits and how long it has been at its present message."""
        actor.tell(lambda _: None)
        shown = actor.snapshot()
        assert shown["mailbox"] == 1
        assert actor.oldest_seconds() > 0
        assert actor.busy_seconds() > 0
        assert "busy" in repr(actor)
        held.set()
        assert actor.request(lambda a: a.is_asked).result(SOON) is True

    def test_a_message_to_one_that_is_gone_is_refused(self, registry: Registry) -> None:
        """Its own threads hear it, too."""
        actor = Obedient.start_and_wait("it", registry)
        assert actor.stop_and_wait(SOON)
        for send in (actor.tell, actor.tell_self):
            with pytest.raises(Unavailable, match="is gone"):
                send("x")
        with pytest.raises(Unavailable):
            actor.request("x").result(SOON)
        assert actor.kill() is False


class TestRefs:
    def test_a_ref_finds_whoever_is_there_now(self, registry: Registry) -> None:
        """It outlives restarts."""
        ref = registry.ref("it")
        for number in range(2):
            actor = Obedient.start_and_wait("it", registry)
            assert ref.ask(lambda _, n=number: n, SOON) == number
            assert actor.stop_and_wait(SOON)

    def test_a_request_to_nobody_fails_at_once_and_a_tell_is_dropped(self, registry: Registry) -> None:
        """Only `ask` waits for somebody to come."""
        ref = registry.ref("nobody")
        ref.tell("x")
        with pytest.raises(Unavailable, match="nobody is at nobody"):
            ref.request("x").result(0)

    def test_an_ask_waits_until_somebody_comes(self, registry: Registry) -> None:
        """It is woken by the registration."""
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        asker = threading.Thread(target=lambda: answers.put(registry.ref("it").ask(lambda _: "hello", SOON)))
        asker.start()
        actor = Obedient.start_and_wait("it", registry)
        assert answers.get(timeout=SOON) == "hello"
        assert actor.stop_and_wait(SOON)

    def test_an_ask_whose_actor_died_before_it_came_to_it_is_sent_to_the_next(self, registry: Registry) -> None:
        """A restart in between is not seen by the asker."""
        first = Obedient.start_and_wait("it", registry)
        release = threading.Event()
        first.tell(lambda _: release.wait(SOON))
        first.tell(fail(ValueError("bad")))
        answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        asker = threading.Thread(target=lambda: answers.put(registry.ref("it").ask(lambda a: a.address, SOON)))
        asker.start()
        while first.depth() < 2:
            assert asker.is_alive()
        release.set()
        assert first.wait_ended(SOON)
        second = Obedient.start_and_wait("it", registry)
        assert answers.get(timeout=SOON) == "it"
        assert second.stop_and_wait(SOON)

    def test_a_message_its_actor_failed_on_is_not_sent_again(self, registry: Registry) -> None:
        """A poisoned question must not kill one incarnation after the other."""
        actor = Obedient.start_and_wait("it", registry)
        with pytest.raises(AnswerFailed, match="poison"):
            registry.ref("it").ask(fail(ValueError("poison")), SOON)
        assert actor.wait_ended(SOON)

    @pytest.mark.parametrize("is_there", [True, False])
    def test_an_ask_without_an_answer_ends_at_its_deadline(
        self, registry: Registry, actor: Obedient, is_there: bool
    ) -> None:
        """Whether nobody is there, or somebody who does not answer."""
        address = "it" if is_there else "nobody"
        with pytest.raises(AskTimeout, match=f"{address} did not answer"):
            registry.ref(address).ask(lambda _: Future(), 0.05)

    def test_a_successor_is_not_unregistered_by_the_one_before_it(self, registry: Registry) -> None:
        """The old one goes late, the name stays with the new one."""
        old = Obedient.start_and_wait("it", registry)
        new = Obedient.start_and_wait("it", registry)
        assert old.stop_and_wait(SOON)
        assert registry.find("it") is new
        assert registry.addresses() == ["it"]
        assert registry.depths() == {"it": 0}
        assert new.stop_and_wait(SOON)
