"""A supervisor of real threads: it starts, restarts, escalates and stops as the machine decides, and shows its tree."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pop_actors.actors import (
    Actor,
    Backoff,
    ChildSpec,
    Exited,
    ExitReason,
    Launch,
    Policy,
    Registry,
    RestartChild,
    Started,
    Supervisor,
    Timers,
    supervisor,
    thread,
)
from pop_actors.actors.child import ChildNotice
from pop_actors.core.observations import ActorRestarted, ActorUp, Feed, Observation
from pop_actors.errors import Refused, StartRefused

SOON = 5.0


class Worker(Actor):
    """Notes its start and its end in a diary; dies when told `die`, hangs when told an event."""

    def __init__(self, diary: Diary, fails: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._diary = diary
        self._fails = fails

    def on_start(self) -> None:
        if self._fails():
            raise OSError("cannot start")
        self._diary.note(f"+{self.address}")

    def on_stop(self) -> None:
        self._diary.note(f"-{self.address}")

    def receive(self, message: Any) -> object:
        if message == "die":
            raise ValueError("told to die")
        if message == "end":
            return self.end()
        if isinstance(message, threading.Event):
            return message.wait(SOON)
        return self.address


class Diary:
    """What happened, in order."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def note(self, line: str) -> None:
        self._lines.put(line)

    def take(self, lines: int) -> str:
        """The next so many lines."""
        return " ".join(self._lines.get(timeout=SOON) for _ in range(lines))

    def has_more(self) -> bool:
        return not self._lines.empty()


class Jobs(Supervisor):
    """Tells what its hooks are told."""

    def __init__(self, diary: Diary, **more: Any) -> None:
        super().__init__(**more)
        self._diary = diary

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:
        if reason.detail.endswith("break the supervisor"):
            raise RuntimeError("the hook is broken")
        self._diary.note(f"{spec.id}.{epoch} {reason.kind} {'again' if will_restart else 'over'}")

    def on_give_up(self, spec: ChildSpec, epoch: int, reason: ExitReason) -> None:
        self._diary.note(f"{spec.id}.{epoch} given up")


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers()
    yield timers
    timers.stop()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def raise_(registry: Registry, timers: Timers, diary: Diary) -> Iterator[Callable[..., Supervisor]]:
    """Start a supervisor of these workers; it is stopped after the test."""
    made: list[Supervisor] = []

    def raise_one(*names: str, kind: type[Supervisor] = Supervisor, notify: Any = None, **more: Any) -> Supervisor:
        specs = [ChildSpec(name, thread(Worker, diary=diary)) for name in names]
        policy = Policy(**{key: more.pop(key) for key in list(more) if key in Policy.__slots__})
        arguments = {"specs": [*specs, *more.pop("specs", ())], "timers": timers, "policy": policy, **more}
        made.append(kind.start_and_wait("root", registry, notify or (lambda _: None), **arguments))
        return made[-1]

    yield raise_one
    for one in made:
        assert one.stop_and_wait(SOON)


def test_children_start_in_order_and_stop_in_reverse(
    raise_: Callable[..., Supervisor], registry: Registry, diary: Diary
) -> None:
    """The stop is complete when it returns: nobody is registered any more."""
    root = raise_("a", "b", "c")
    assert diary.take(3) == "+a +b +c"
    assert registry.ref("b").ask("who", SOON) == "b"
    assert root.stop_and_wait(SOON)
    assert diary.take(3) == "-c -b -a"
    assert registry.addresses() == []
    assert root.stop_and_wait(SOON)


def test_a_child_that_dies_is_back_at_its_address(
    raise_: Callable[..., Supervisor], registry: Registry, diary: Diary
) -> None:
    """Whoever asks meanwhile does not notice; metrics do."""
    seen: queue.SimpleQueue[Observation] = queue.SimpleQueue()
    raise_("a", feed=Feed(seen.put))
    registry.ref("a").tell("die")
    assert diary.take(3) == "+a -a +a"
    assert registry.ref("a").ask("who", SOON) == "a"
    assert [seen.get(timeout=SOON) for _ in range(4)] == [
        ActorUp("a", up=True),
        ActorUp("a", up=False),
        ActorRestarted("a", "exception"),
        ActorUp("a", up=True),
    ]


def test_a_group_comes_back_together(raise_: Callable[..., Supervisor], registry: Registry, diary: Diary) -> None:
    """One for all, with real threads."""
    raise_("a", "b", "c", strategy="one_for_all")
    assert diary.take(3) == "+a +b +c"
    registry.ref("b").tell("die")
    assert diary.take(6) == "-b -c -a +a +b +c"


def test_a_supervisor_whose_child_cannot_start_does_not_start(registry: Registry, timers: Timers, diary: Diary) -> None:
    """What was started is stopped, and the caller hears the cause."""
    specs = [
        ChildSpec("a", thread(Worker, diary=diary)),
        ChildSpec("b", thread(Worker, diary=diary, fails=lambda: True)),
    ]
    with pytest.raises(StartRefused, match=r"child b did not start: .*cannot start"):
        Supervisor.start_and_wait("root", registry, specs=specs, timers=timers)
    assert diary.take(2) == "+a -a"
    assert registry.addresses() == []


def test_a_starter_that_raises_is_a_failed_start(registry: Registry, timers: Timers) -> None:
    """A constructor's exception goes the same way as one of `on_start`."""

    def starter(_launch: Launch) -> Actor:
        raise TypeError("no such argument")

    with pytest.raises(StartRefused, match="no such argument"):
        Supervisor.start_and_wait("root", registry, specs=[ChildSpec("a", starter)], timers=timers)


def test_too_many_deaths_end_the_supervisor_and_its_parent_hears_why(
    raise_: Callable[..., Supervisor], registry: Registry
) -> None:
    """The escalation, up to the top of the tree."""
    heard: queue.SimpleQueue[ChildNotice] = queue.SimpleQueue()
    raise_("a", "b", max_restarts=1, notify=heard.put)
    assert heard.get(timeout=SOON) == Started()
    for _ in range(2):
        assert registry.ref("a").ask("who", SOON) == "a"
        dying = registry.find("a")
        assert isinstance(dying, Actor)
        dying.tell("die")
        assert dying.wait_ended(SOON)
    ended = heard.get(timeout=SOON)
    assert isinstance(ended, Exited)
    assert ended.reason.kind == "shutdown"
    assert "child a failed too often" in ended.reason.detail
    assert registry.addresses() == []


def test_a_nested_supervisor_is_restarted_with_all_it_holds(
    raise_: Callable[..., Supervisor], registry: Registry, timers: Timers, diary: Diary
) -> None:
    """Its escalation is an exit for the one above."""
    inner = supervisor(
        specs=[ChildSpec("x", thread(Worker, diary=diary))],
        timers=timers,
        policy=Policy(max_restarts=0),
        prefix="jobs/",
    )
    raise_(specs=[ChildSpec("jobs", inner, kind="supervisor")])
    assert diary.take(1) == "+jobs/x"
    registry.ref("jobs/x").tell("die")
    assert diary.take(2) == "-jobs/x +jobs/x"


def test_a_thread_that_hangs_takes_the_tree_down(raise_: Callable[..., Supervisor], registry: Registry) -> None:
    """It misses its heartbeat; the others stop, it is left behind, and the reason says `hung`."""
    heard: queue.SimpleQueue[ChildNotice] = queue.SimpleQueue()
    slow = ChildSpec("a", thread(Worker, diary=Diary()), shutdown=0.05)
    raise_("b", specs=[slow], notify=heard.put, heartbeat_seconds=0.02, heartbeat_deadline=0.2)
    assert heard.get(timeout=SOON) == Started()
    release = threading.Event()
    hanging = registry.find("a")
    assert isinstance(hanging, Actor)
    hanging.tell(release)
    ended = heard.get(timeout=SOON)
    assert isinstance(ended, Exited)
    assert ended.reason.kind == "hung"
    assert registry.addresses() == []
    release.set()
    assert hanging.wait_ended(SOON)


def test_threads_that_answer_their_pings_live_on(raise_: Callable[..., Supervisor], registry: Registry) -> None:
    """Many heartbeats later the first incarnation is still there."""
    root = raise_("a", heartbeat_seconds=0.01, heartbeat_deadline=0.5)
    first = registry.find("a")
    beaten = threading.Event()
    began = root._machine.children["a"].last_beat

    def look() -> None:
        if root._machine.children["a"].last_beat > began + 0.05:
            beaten.set()
        else:
            root._timers.after(0.01, look)

    look()
    assert beaten.wait(SOON)
    assert registry.find("a") is first


class TestDynamic:
    @pytest.fixture
    def jobs(self, raise_: Callable[..., Supervisor], diary: Diary) -> Supervisor:
        return raise_(
            kind=Jobs, diary=diary, dynamic=True, intensity_scope="child", max_restarts=1, prefix="jobs/", label="job"
        )

    def job(self, diary: Diary, name: str, **more: Any) -> ChildSpec:
        return ChildSpec(name, thread(Worker, diary=diary), restart="transient", **more)

    def test_the_owner_hears_of_every_exit_and_whether_it_was_the_last(
        self, jobs: Supervisor, registry: Registry, diary: Diary
    ) -> None:
        """Epochs go on from where the owner began."""
        assert jobs.start_child(self.job(diary, "j", first_epoch=4)).result(SOON) == 4
        registry.ref("jobs/j").tell("die")
        assert diary.take(4) == "+jobs/j -jobs/j j.4 exception again +jobs/j"
        registry.ref("jobs/j").ask("who", SOON)
        registry.ref("jobs/j").tell("end")
        assert diary.take(2) == "-jobs/j j.5 normal over"
        assert jobs.which_children().result(SOON) == []

    def test_one_that_fails_too_often_is_given_up_and_the_others_go_on(
        self, jobs: Supervisor, registry: Registry, diary: Diary
    ) -> None:
        """Its place is free again."""
        for name in ("poisoned", "well"):
            jobs.start_child(self.job(diary, name)).result(SOON)
        diary.take(2)
        registry.ref("jobs/poisoned").tell("die")
        assert diary.take(3) == "-jobs/poisoned poisoned.1 exception again +jobs/poisoned"
        registry.ref("jobs/poisoned").ask("who", SOON)
        registry.ref("jobs/poisoned").tell("die")
        assert diary.take(3) == "-jobs/poisoned poisoned.2 exception over poisoned.2 given up"
        assert registry.ref("jobs/well").ask("who", SOON) == "jobs/well"
        assert jobs.count_children().result(SOON)["specs"] == 1

    def test_all_children_stop_at_the_same_time(self, jobs: Supervisor, registry: Registry, diary: Diary) -> None:
        """Each waits for the others to be asked, so one by one they would never end."""
        together = threading.Barrier(3)

        class Waiting(Worker):
            def on_stop(self) -> None:
                together.wait(SOON)

        for name in ("x", "y", "z"):
            jobs.start_child(ChildSpec(name, thread(Waiting, diary=diary))).result(SOON)
        assert jobs.stop_and_wait(SOON)
        assert not together.broken

    def test_commands_that_cannot_be_done_are_refused(self, jobs: Supervisor, diary: Diary) -> None:
        """With the machine's code."""
        jobs.start_child(self.job(diary, "j")).result(SOON)
        with pytest.raises(Refused) as caught:
            jobs.start_child(self.job(diary, "j")).result(SOON)
        assert caught.value.code == "already_started"
        with pytest.raises(Refused) as caught:
            jobs.delete_child("nobody").result(SOON)
        assert caught.value.code == "not_found"
        assert jobs.terminate_child("j").result(SOON) is None
        with pytest.raises(Refused, match="no child j"):
            jobs.restart_child("j").result(SOON)

    def test_a_supervisor_that_fails_itself_leaves_no_child_behind(
        self, jobs: Supervisor, registry: Registry, diary: Diary
    ) -> None:
        """Its own bug is no reason for orphans, and who waits for an answer gets one."""

        class Breaking(Worker):
            def receive(self, message: Any) -> object:
                raise ValueError("break the supervisor")

        jobs.start_child(self.job(diary, "j")).result(SOON)
        jobs.start_child(ChildSpec("b", thread(Breaking, diary=diary))).result(SOON)
        assert diary.take(2) == "+jobs/j +jobs/b"
        registry.ref("jobs/b").tell("x")
        assert jobs.wait_ended(SOON)
        assert diary.take(2) == "-jobs/b -jobs/j"
        assert registry.addresses() == []

    def test_a_child_waits_its_pause_before_it_comes_back(
        self, jobs: Supervisor, registry: Registry, diary: Diary
    ) -> None:
        """Meanwhile it is `restarting`, and can be called off."""
        jobs.start_child(self.job(diary, "slow", backoff=Backoff(60.0, 60.0))).result(SOON)
        jobs.start_child(self.job(diary, "quick", backoff=Backoff(0.01, 0.01))).result(SOON)
        diary.take(2)
        registry.ref("jobs/slow").tell("die")
        assert diary.take(2) == "-jobs/slow slow.1 exception again"
        registry.ref("jobs/quick").tell("die")
        assert diary.take(3) == "-jobs/quick quick.1 exception again +jobs/quick"
        states = {row["id"]: row["state"] for row in jobs.which_children().result(SOON)}
        assert states["slow"] == "restarting"
        assert jobs.terminate_child("slow").result(SOON) is None
        assert "slow" not in {row["id"] for row in jobs.which_children().result(SOON)}


class TestTree:
    def test_the_tree_shows_every_child_and_what_it_does(
        self, raise_: Callable[..., Supervisor], timers: Timers, diary: Diary
    ) -> None:
        """Nested, JSON-able, with the keys that are promised."""
        inner = supervisor(specs=[ChildSpec("x", thread(Worker, diary=diary))], timers=timers, prefix="jobs/")
        root = raise_("a", specs=[ChildSpec("jobs", inner, kind="supervisor")])
        tree = json.loads(json.dumps(root.tree()))
        assert tree["name"] == "root"
        assert tree["state"] == "running"
        shown = {row["name"]: row for row in tree["children"]}
        assert list(shown) == ["a", "jobs"]
        assert set(shown["a"]) >= {"name", "kind", "state", "pid", "restarts", "mailbox", "uptime", "children"}
        assert (shown["a"]["kind"], shown["a"]["state"], shown["a"]["pid"]) == ("thread", "running", None)
        assert shown["a"]["uptime"] >= 0
        assert shown["jobs"]["kind"] == "supervisor"
        assert [row["name"] for row in shown["jobs"]["children"]] == ["jobs/x"]

    def test_a_child_is_found_by_its_name_wherever_it_is(
        self, raise_: Callable[..., Supervisor], timers: Timers, registry: Registry, diary: Diary
    ) -> None:
        """And can be restarted there by hand, at no cost to the budget."""
        inner = supervisor(
            specs=[ChildSpec("x", thread(Worker, diary=diary))],
            timers=timers,
            prefix="jobs/",
            policy=Policy(max_restarts=0),
        )
        root = raise_("a", specs=[ChildSpec("jobs", inner, kind="supervisor")])
        assert diary.take(2) == "+a +jobs/x"
        found = root.find_below("jobs/x")
        assert found is not None
        above, child_id = found
        assert above.address == "jobs"
        assert registry.ref("jobs").ask(RestartChild(child_id, force=True), SOON) == 2
        assert diary.take(2) == "-jobs/x +jobs/x"
        assert root.find_below("nobody") is None
        running = above.running("x")
        assert running is not None
        assert running.pid is None
        assert above.tree()["children"][0]["restarts"] == 1


def test_a_process_like_child_is_stopped_politely_then_killed(raise_: Callable[..., Supervisor]) -> None:
    """Any child that keeps to the protocol will do; this one hears nothing until it is killed."""
    done: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Deaf:
        pid = os.getpid()

        def __init__(self, launch: Launch) -> None:
            self.launch = launch
            launch.notify(Started())

        def request_stop(self, message: object | None = None) -> None:
            done.put(f"asked {message}")

        def kill(self) -> bool:
            done.put("killed")
            self.launch.notify(Exited(ExitReason("signal", "SIGKILL")))
            return True

        def snapshot(self) -> dict[str, Any]:
            return {"mailbox": 3, "phase": "deaf"}

    root = raise_(specs=[ChildSpec("p", Deaf, kind="process", shutdown=0.02, stop_message="now")])
    (row,) = root.tree()["children"]
    assert (row["pid"], row["mailbox"], row["details"]) == (os.getpid(), 3, {"phase": "deaf"})
    assert root.stop_and_wait(SOON)
    assert [done.get(timeout=SOON), done.get(timeout=SOON)] == ["asked now", "killed"]
