"""Mailboxes at their bound: each policy does what it says, nothing that matters is lost, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.actors import Actor, Registry
from pop_actors.actors.mailbox import OVERFLOW, Letter, Mailbox, SheddingMailbox
from pop_actors.actors.undelivered import MOST_ADDRESSES, OTHERS, Undelivered
from pop_actors.errors import AskTimeout, Unavailable
from support.daemon import wait_until

SOON = 5.0
LIMIT = 10


class Slow(Actor):
    """Keeps what it is told; a callable it calls. It takes nothing while `gate` is shut."""

    mailbox_limit = LIMIT

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.taken: list[Any] = []

    def receive(self, message: Any) -> object:
        if message == "shut":
            self.gate.wait(SOON)
            return None
        if callable(message):
            return message()
        self.taken.append(message)
        return message


class Failing(Slow):
    """Cannot stand poison."""

    def receive(self, message: Any) -> object:
        if message == "poison":
            raise ValueError(message)
        return super().receive(message)


class Leaving(Slow):
    """Takes its time to clean up."""

    def __init__(self) -> None:
        super().__init__()
        self.is_leaving = threading.Event()

    def on_stop(self) -> None:
        self.is_leaving.set()
        self.gate.wait(SOON)


class Refusing(Slow):
    mailbox_policy = "refuse"


class Shedding(Slow):
    """Strings may be lost."""

    mailbox_policy = "drop_oldest"
    may_be_lost = frozenset({str})


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def start(registry: Registry) -> Iterator[Callable[[type[Slow]], Slow]]:
    """Start one at `it` that takes nothing until its gate is open."""
    started: list[Slow] = []

    def start(kind: type[Slow]) -> Slow:
        actor = kind.start_and_wait("it", registry)
        actor.tell("shut")
        wait_until(lambda: actor.depth() == 0, SOON, "the actor to be at its gate")
        started.append(actor)
        return actor

    yield start
    for actor in started:
        actor.gate.set()
        assert actor.stop_and_wait(SOON)


def fill(actor: Slow, numbers: range = range(LIMIT)) -> None:
    for number in numbers:
        actor.tell(number)
    assert actor.depth() == LIMIT


def in_thread(work: Callable[[], object]) -> queue.SimpleQueue[object]:
    """Do it in a thread that may wait; its result, or its exception, comes in the queue."""
    results: queue.SimpleQueue[object] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except Exception as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    return results


class TestBlock:
    def test_the_sender_waits_for_room(self, start: Callable[[type[Slow]], Slow]) -> None:
        """And nothing is lost or out of order."""
        actor = start(Slow)
        fill(actor)
        sent = in_thread(lambda: [actor.tell(number) for number in range(LIMIT, 100)])
        wait_until(lambda: actor._mailbox._waiting_for_room == 1, SOON, "the sender to wait")
        assert sent.empty()
        assert actor.depth() == LIMIT
        actor.gate.set()
        assert sent.get(timeout=SOON) == [None] * 90
        wait_until(lambda: len(actor.taken) == 100, SOON, "everything to be taken")
        assert actor.taken == list(range(100))

    def test_many_senders_all_come_in(self, start: Callable[[type[Slow]], Slow]) -> None:
        """Each one's messages in its order."""
        actor = start(Slow)
        fill(actor)
        sent = [in_thread(lambda n=n: [actor.tell((n, i)) for i in range(50)]) for n in range(8)]
        actor.gate.set()
        for results in sent:
            assert results.get(timeout=SOON) == [None] * 50
        wait_until(lambda: len(actor.taken) == LIMIT + 400, SOON, "everything to be taken")
        for sender in range(8):
            assert [m for m in actor.taken[LIMIT:] if m[0] == sender] == [(sender, i) for i in range(50)]

    def test_an_asker_waits_in_ask_and_a_request_is_refused_at_once(
        self, start: Callable[[type[Slow]], Slow], registry: Registry
    ) -> None:
        """`request` returns at once; `ask` sends again while the mailbox is full, up to its deadline."""
        actor = start(Slow)
        fill(actor)
        assert isinstance(actor.request(11).exception(0), Unavailable)
        with pytest.raises(AskTimeout):
            registry.ref("it").ask(11, 0.1)
        asked = in_thread(lambda: registry.ref("it").ask(12, SOON))
        actor.gate.set()
        assert asked.get(timeout=SOON) == 12

    def test_who_waits_hears_of_the_actors_end(self, start: Callable[[type[Slow]], Slow], registry: Registry) -> None:
        """An actor that fails lets its senders go; what waited for it is counted as lost."""
        actor = start(Slow)
        actor.put(lambda: 1 / 0)
        fill(actor, range(LIMIT - 1))
        sent = in_thread(lambda: actor.tell("late"))
        wait_until(lambda: actor._mailbox._waiting_for_room == 1, SOON, "the sender to wait")
        actor.gate.set()
        answer = sent.get(timeout=SOON)
        assert answer is None or isinstance(answer, Unavailable)
        assert actor.wait_ended(SOON)
        assert registry.undelivered.dropped()["it"] >= LIMIT - 1

    def test_an_actors_own_thread_never_waits(self, start: Callable[[type[Slow]], Slow], registry: Registry) -> None:
        """What it sends goes in above the bound, up to a bound beyond which it hears a no."""
        actor = start(Slow)
        fill(actor)
        sender = Slow.start_and_wait("sender", registry)
        sent = sender.request(lambda: [actor.tell(number) for number in range(LIMIT, LIMIT * OVERFLOW)])
        assert sent.result(SOON) == [None] * (LIMIT * OVERFLOW - LIMIT)
        over = sender.request(lambda: actor.request("one too many").exception(0))
        assert isinstance(over.result(SOON), Unavailable)
        assert registry.undelivered.refused() == {"it": 1}
        assert sender.stop_and_wait(SOON)

    def test_an_event_loop_never_waits(self, start: Callable[[type[Slow]], Slow]) -> None:
        """One full mailbox must not stop everything else that lives on the loop."""
        actor = start(Slow)
        fill(actor)

        async def tell() -> None:
            actor.tell("from the loop")

        asyncio.run(tell())
        assert actor.depth() == LIMIT + 1

    def test_actors_that_tell_each_other_in_circles_do_not_wait_for_each_other(self, registry: Registry) -> None:
        """Both mailboxes full, each of them sending to the other: all of it arrives."""
        sides = [Echoing.start_and_wait(address, registry) for address in ("left", "right")]
        for side in sides:
            side.tell((registry, 200))
        for side in sides:
            wait_until(lambda side=side: side.count == 200, SOON, "all messages to arrive")
        for side in sides:
            assert side.stop_and_wait(SOON)


class Echoing(Actor):
    """Told (registry, n), tells its counterpart n messages at once."""

    mailbox_limit = 100

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def receive(self, message: Any) -> None:
        if isinstance(message, tuple):
            registry, many = message
            other = registry.ref("right" if self.address == "left" else "left")
            for number in range(many):
                other.tell(number)
        else:
            self.count += 1


class TestRefuse:
    def test_the_sender_hears_it_at_once_and_it_is_counted(
        self, start: Callable[[type[Slow]], Slow], registry: Registry
    ) -> None:
        """Tells and asks; nothing else is lost, and nobody holds anything back for such an actor."""
        actor = start(Refusing)
        fill(actor)
        with pytest.raises(Unavailable, match="it: mailbox full, 10 messages wait"):
            registry.ref("it").tell("more")
        with pytest.raises(Unavailable, match="refuses"):
            actor.request("more").result(0)
        assert not registry.is_full("it")
        assert registry.undelivered.refused() == {"it": 2}
        actor.tell_self("its own")
        actor.gate.set()
        wait_until(lambda: len(actor.taken) == LIMIT + 1, SOON, "everything to be taken")


class TestDropOldest:
    def test_the_oldest_that_may_be_lost_makes_room(
        self, start: Callable[[type[Slow]], Slow], registry: Registry
    ) -> None:
        """What must be kept is kept, and the order stays."""
        actor = start(Shedding)
        fill_with: list[Any] = [1, "a", 2, "b", 3, "c", 4, "d", 5, "e"]
        for message in fill_with:
            actor.tell(message)
        actor.tell("f")
        actor.tell(6)
        assert actor.depth() == LIMIT
        actor.gate.set()
        wait_until(lambda: len(actor.taken) == LIMIT, SOON, "everything to be taken")
        assert actor.taken == [1, 2, 3, "c", 4, "d", 5, "e", "f", 6]
        assert registry.undelivered.dropped() == {"it": 2}

    def test_where_nothing_may_be_lost_the_sender_waits(self, start: Callable[[type[Slow]], Slow]) -> None:
        """As with `block`; and what may be lost is lost itself."""
        actor = start(Shedding)
        fill(actor)
        actor.tell("lost")
        sent = in_thread(lambda: actor.tell(10))
        wait_until(lambda: actor._mailbox._waiting_for_room == 1, SOON, "the sender to wait")
        actor.gate.set()
        assert sent.get(timeout=SOON) is None
        wait_until(lambda: len(actor.taken) == LIMIT + 1, SOON, "everything to be taken")
        assert actor.taken == list(range(LIMIT + 1))


LETTERS = st.lists(st.one_of(st.integers(), st.text("ab", max_size=2), st.none()), max_size=60)


@given(LETTERS, st.integers(1, 8))
def test_a_shedding_mailbox_is_a_queue_that_lost_its_oldest_losable_letters(steps: list[Any], limit: int) -> None:
    """Against a list: text may be lost, numbers may not, None takes one out."""
    mailbox = SheddingMailbox(limit, frozenset({str}))
    model: list[Any] = []
    for step in steps:
        if step is None:
            assert (mailbox.get_nowait().message if model else None) == (model.pop(0) if model else None)
            continue
        losable = next((known for known in model if isinstance(known, str)), None)
        lost = 0
        if len(model) >= limit and (losable is not None or isinstance(step, str)):
            lost = 1
            if losable is not None:
                model.remove(losable)
                model.append(step)
        elif len(model) < limit:
            model.append(step)
        else:
            with pytest.raises(Unavailable):
                mailbox.offer(Letter(step), patience=0.0)
            continue
        assert mailbox.offer(Letter(step), patience=0.0) == lost
        assert mailbox.qsize() == len(model)
    assert [mailbox.get_nowait().message for _ in model] == model
    with pytest.raises(queue.Empty):
        mailbox.get_nowait()


def test_patience_ends() -> None:
    """A sender that waits for room is not kept for ever."""
    mailbox = Mailbox(1)
    mailbox.offer(Letter("first"))
    said = in_thread(lambda: mailbox.offer(Letter("second"), patience=0.01)).get(timeout=SOON)
    assert isinstance(said, Unavailable)
    assert "none was taken out in 0.01 s" in str(said)


def test_the_age_is_that_of_the_oldest() -> None:
    """It grows while nothing is taken out, and is none in an empty mailbox."""
    for mailbox in (Mailbox(), SheddingMailbox(10, frozenset())):
        assert mailbox.oldest_seconds() == 0
        mailbox.offer(Letter("first"))
        first = mailbox.oldest_seconds()
        mailbox.offer(Letter("second"))
        assert mailbox.oldest_seconds() >= first > 0
        mailbox.get()
        mailbox.get()
        assert mailbox.oldest_seconds() == 0


class TestAbsence:
    def test_what_is_left_for_an_actor_comes_first(self, registry: Registry) -> None:
        """In its order, before anything that is sent to the new one."""
        ref = registry.ref("it")
        ref.leave(1)
        ref.leave(2)
        actor = Slow.start_and_wait("it", registry)
        ref.leave(3)
        assert ref.ask(4, SOON) == 4
        assert actor.taken == [1, 2, 3, 4]
        assert actor.stop_and_wait(SOON)

    def test_what_was_left_is_not_lost_with_the_actor_that_did_not_take_it(self, registry: Registry) -> None:
        """It waited in the mailbox when the actor failed, before what is left since; told messages are lost, and
        counted. What the actor failed on is not handed to the next one."""
        first = Failing.start_and_wait("it", registry)
        ref = registry.ref("it")
        ref.tell("shut")
        ref.leave("poison")
        ref.leave(1)
        ref.tell("told")
        ref.leave(2)
        first.gate.set()
        assert first.wait_ended(SOON)
        ref.leave(3)
        second = Slow.start_and_wait("it", registry)
        assert ref.ask(4, SOON) == 4
        assert second.taken == [1, 2, 3, 4]
        assert registry.undelivered.dropped() == {"it": 1}
        assert second.stop_and_wait(SOON)

    def test_what_is_left_for_one_on_its_way_out_comes_before_what_came_later(self, registry: Registry) -> None:
        """While it cleans up it is nobody's address any more; its mailbox is given back all the same, in front."""
        first = Leaving.start_and_wait("it", registry)
        first.request_stop()
        first.keep(1)
        assert first.is_leaving.wait(SOON)
        ref = registry.ref("it")
        ref.leave(2)
        first.gate.set()
        assert first.wait_ended(SOON)
        first.keep(0)  # by one that had found it before
        second = Slow.start_and_wait("it", registry)
        assert ref.ask(3, SOON) == 3
        assert second.taken == [0, 1, 2, 3]
        assert second.stop_and_wait(SOON)

    def test_no_more_is_left_for_actors_that_do_not_come_than_is_allowed(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rest is lost, and counted."""
        monkeypatch.setattr("pop_actors.actors.registry.MOST_LEFT", 3)
        for number in range(5):
            registry.ref("it").leave(number)
        registry.give_back("other", [1, 2])
        assert registry.undelivered.dropped() == {"it": 2, "other": 2}
        actor = Slow.start_and_wait("it", registry)
        registry.give_back("other", [1, 2])
        assert registry.ref("it").ask(5, SOON) == 5
        assert actor.taken == [0, 1, 2, 5]
        assert actor.stop_and_wait(SOON)

    def test_a_tell_to_one_that_is_gone_is_counted(self, registry: Registry) -> None:
        """By its address; children of one parent together, so that the count stays small. Nobody misses what was told
        before there was anybody."""
        for address in ("it", "jobs/a", "jobs/b"):
            registry.ref(address).tell("too early")
            assert Slow.start_and_wait(address, registry).stop_and_wait(SOON)
        for address in ("it", "jobs/a", "jobs/b"):
            registry.ref(address).tell("too late")
        assert registry.undelivered.dropped() == {"it": 1, "jobs/*": 3}  # jobs/b was expected once there was jobs/a

    def test_made_up_names_do_not_fill_the_counters(self) -> None:
        """However many there are, they count together in the end."""
        undelivered = Undelivered()
        for number in range(MOST_ADDRESSES + 10):
            undelivered.count_dropped(f"name-{number}", "a test", 2)
        assert undelivered.dropped()[OTHERS] == 20
        assert len(undelivered.dropped()) == MOST_ADDRESSES + 1

    def test_an_actor_that_went_is_expected_back_for_a_while(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Senders that can wait should, until it is there again or it was too long."""
        assert registry.accepts("it")
        actor = Slow.start_and_wait("it", registry)
        assert registry.accepts("it")
        assert actor.stop_and_wait(SOON)
        assert not registry.accepts("it")
        monkeypatch.setattr("pop_actors.actors.registry.AWAY_SECONDS", 0.0)
        assert registry.accepts("it")
