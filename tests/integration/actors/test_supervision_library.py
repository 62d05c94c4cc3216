"""The framework as a library: an `ActorSystem` and what its supervisors do, with real threads and processes."""

from __future__ import annotations

import importlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pop_actors import actors
from pop_actors.actors import (
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorSystem,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    Json,
    Launch,
    Policy,
    ProcessActor,
    Report,
    StartChild,
    Strategy,
    Supervisor,
    SupervisorRef,
    supervisor,
    thread,
)
from pop_actors.errors import Refused, StartRefused, Unavailable
from support.daemon import wait_until
from support.echo_actor import do

SOON = 15.0
ECHO = "support.echo_actor:Echo"
GUIDE = Path(__file__).parents[3] / "docs" / "actors.md"
DEMO = Path(__file__).parents[3] / "demo" / "supervision.py"


class Counter(Actor):
    """Counts what it is told; ends for the reason it is told, fails on an exception, blocks on an event."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self._count = first

    def receive(self, message: Any) -> object:
        if isinstance(message, ExitReason):
            self.end(message)
        elif isinstance(message, Exception):
            raise message
        elif isinstance(message, threading.Event):
            message.wait(SOON)
        elif message == "count":
            return self._count
        else:
            self._count += message
        return None


class Idle(Actor):
    """Finds that it has nothing to do."""

    def on_start(self) -> None:
        self.end()


class Reports:
    """What the listener heard."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.hear = self._heard.put

    def next(self, kind: str) -> Report:
        """The next of this kind."""
        while True:
            report = self._heard.get(timeout=SOON)
            if report.kind == kind:
                return report

    def words(self, count: int) -> list[str]:
        reports = [self._heard.get(timeout=SOON) for _ in range(count)]
        return [f"{report.supervisor}/{report.child}.{report.epoch} {report.kind}" for report in reports]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def system(reports: Reports) -> Iterator[ActorSystem]:
    with ActorSystem(report=reports.hear, preload=("support.echo_actor",)) as system:
        yield system
        assert system.stop(SOON)


def crash(system: ActorSystem, address: str) -> None:
    system.ref(address).tell(ValueError("told to fail"))


class TestASystem:
    def test_ten_lines_are_enough(self) -> None:
        """Start, tell, ask, crash, and find it back at its address, begun anew."""
        with ActorSystem() as system:
            system.supervise("top", [ChildSpec("counter", thread(Counter, first=40))])
            counter = system.ref("counter")
            counter.tell(2)
            assert counter.ask("count", SOON) == 42
            crash(system, "counter")
            wait_until(lambda: counter.ask("count", SOON) == 40, SOON, "a counter begun anew")
        assert system.registry.addresses() == []

    def test_a_supervisor_that_cannot_start_says_which_child_and_why(self, system: ActorSystem) -> None:
        """And what had started is stopped."""
        specs = [ChildSpec("good", thread(Counter)), ChildSpec("bad", thread(Counter, last=1))]
        with pytest.raises(StartRefused, match=r"child bad did not start: exception: TypeError.*last"):
            system.supervise("top", specs)
        assert system.registry.addresses() == []

    def test_it_stops_everything_last_first_and_a_second_stop_does_nothing(
        self, system: ActorSystem, reports: Reports
    ) -> None:
        """Several supervisors, and an actor nobody supervises."""
        tops = [system.supervise(name, [ChildSpec(f"{name}-c", thread(Counter))]) for name in ("a", "b")]
        alone = system.spawn(Counter, "alone", first=7)
        assert system.ref("alone").ask("count", SOON) == 7
        assert system.stop(SOON)
        assert system.stop(SOON)
        assert [top.exit_reason for top in tops] == [SHUTDOWN, SHUTDOWN]
        assert alone.wait_ended(0)
        assert system.registry.addresses() == []

    def test_a_class_of_the_main_program_is_no_process(self, system: ActorSystem) -> None:
        """The process could not import it; the error says where to put it."""

        class Local(ProcessActor):
            """In a function, so nobody else can import it."""

        with pytest.raises(ValueError, match="top level of a module"):
            system.process(Local)

    def test_threads_and_processes_are_asked_in_the_same_way(self, system: ActorSystem) -> None:
        """A killed process is back like a crashed thread, and answers at the same address."""
        system.supervise("top", [ChildSpec("echo", system.process(ECHO))])
        first = system.ref("echo").ask(do("who"), SOON)
        assert first["epoch"] == 1
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: system.ref("echo").ask(do("who"), SOON)["epoch"] == 2, SOON, "a second incarnation")

    def test_the_lines_of_the_guide_do_what_it_says(
        self, system: ActorSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both examples of docs/actors.md, taken from the page itself."""
        first, second = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
        exec(first, {})
        module, use = second.split("\n\n", 1)
        imports = "from pop_actors.actors import ProcessActor, Question\n\n"
        (tmp_path / "squares.py").write_text(imports + module, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        square = importlib.import_module("squares").Square
        exec(use, {**vars(actors), "top": system.supervise("top"), "system": system, "Square": square})
        assert system.ref("square").ask(Json(9), SOON) == 81

    def test_the_example_of_the_guide_runs(self) -> None:
        """As a reader would start it."""
        ran = subprocess.run(
            [sys.executable, str(DEMO)], capture_output=True, text=True, timeout=50, cwd=DEMO.parents[1], check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[-1] == "everything is stopped: True"


class TestReports:
    def test_every_start_and_every_death_is_told(self, system: ActorSystem, reports: Reports) -> None:
        """Progress, what ended by itself, what did not start, in order."""
        is_broken = threading.Event()

        class Fragile(Counter):
            def on_start(self) -> None:
                if is_broken.is_set():
                    is_broken.clear()
                    raise OSError("cannot start")

        system.supervise("top", [ChildSpec("a", thread(Counter)), ChildSpec("f", thread(Fragile))])
        is_broken.set()
        crash(system, "f")
        assert reports.words(5) == [
            "top/a.1 progress",
            "top/f.1 progress",
            "top/f.1 child_terminated",
            "top/f.2 start_error",
            "top/f.3 progress",
        ]

    def test_a_stop_that_went_wrong_is_told(self, system: ActorSystem, reports: Reports) -> None:
        """A deaf process has to be killed; one that is to be killed is not worth a word."""
        deaf = ChildSpec("deaf", system.process(ECHO, deaf=True), shutdown=0.05)
        doomed = ChildSpec("doomed", system.process(ECHO), shutdown="brutal_kill")
        top = system.supervise("top", [deaf, doomed])
        top.terminate_child("doomed").result(SOON)
        top.terminate_child("deaf").result(SOON)
        report = reports.next("shutdown_error")
        assert (report.child, report.reason) == ("deaf", ExitReason("signal", "SIGKILL"))

    def test_supervisors_below_tell_the_same_listener(self, system: ActorSystem, reports: Reports) -> None:
        """Unless they were given one of their own."""
        own = Reports()
        nested = [
            ChildSpec("in", supervisor(specs=[ChildSpec("x", thread(Counter))])),
            ChildSpec("out", supervisor(specs=[ChildSpec("y", thread(Counter))], report=own.hear)),
        ]
        system.supervise("top", nested)
        assert reports.words(3) == ["in/x.1 progress", "top/in.1 progress", "top/out.1 progress"]
        assert own.words(1) == ["out/y.1 progress"]

    def test_a_listener_that_fails_disturbs_nobody(self) -> None:
        """It is logged, and that is all."""

        def fail(_report: Report) -> None:
            raise RuntimeError("the listener is broken")

        with ActorSystem(report=fail) as system:
            top = system.supervise("top", [ChildSpec("a", thread(Counter))])
            assert top.count_children().result(SOON)["active"] == 1


class TestEscalation:
    def test_one_restart_too_many_ends_the_supervisor(self, system: ActorSystem, reports: Reports) -> None:
        """With reason shutdown, whatever the child died of; the report says what was too much."""
        top = system.supervise("top", [ChildSpec("a", thread(Counter))], policy=Policy(max_restarts=1))
        assert top.exit_reason is None
        crash(system, "a")
        assert reports.next("child_terminated").will_restart
        wait_until(lambda: top.which_children().result(SOON)[0]["state"] == "running", SOON, "a to be back")
        crash(system, "a")
        assert top.wait_ended(SOON)
        assert top.exit_reason is not None
        assert top.exit_reason.kind == "shutdown"
        assert reports.next("gave_up").child == "a"

    def test_it_climbs_level_by_level(self, system: ActorSystem) -> None:
        """A child that can never come back takes its supervisor's restarts, and then that one's, and then the top."""
        starts: queue.SimpleQueue[str] = queue.SimpleQueue()

        class Once(Counter):
            def on_start(self) -> None:
                starts.put("start")
                if starts.qsize() > 1:
                    raise OSError("cannot start again")

        inner = supervisor(specs=[ChildSpec("x", thread(Once))], policy=Policy(max_restarts=2))
        top = system.supervise("top", [ChildSpec("mid", inner)], policy=Policy(max_restarts=1))
        crash(system, "x")
        assert top.wait_ended(SOON)
        assert top.exit_reason is not None
        assert "child mid failed too often" in top.exit_reason.detail
        assert starts.qsize() == 1 + 2 + 1

    def test_a_tree_is_restarted_with_what_it_was_made_of_and_not_with_what_came_later(
        self, system: ActorSystem
    ) -> None:
        """Children added at run time are gone with the supervisor that had them."""
        inner = supervisor(specs=[ChildSpec("x", thread(Counter))], policy=Policy(max_restarts=0))
        other = supervisor(specs=[ChildSpec("z", thread(Counter))])
        top = system.supervise(
            "top",
            [ChildSpec("one", inner), ChildSpec("two", other)],
            policy=Policy(strategy=Strategy.ONE_FOR_ALL),
        )
        one, two = (SupervisorRef(system.registry, name) for name in ("one", "two"))
        one.start_child(ChildSpec("y", thread(Counter))).result(SOON)
        two.start_child(ChildSpec("w", thread(Counter))).result(SOON)
        assert top.count_children().result(SOON) == {"specs": 2, "active": 2, "supervisors": 2, "workers": 0}
        crash(system, "y")
        wait_until(lambda: {row["epoch"] for row in _rows(top)} == {2}, SOON, "both to be back")
        wait_until(lambda: {row["state"] for row in _rows(top)} == {"running"}, SOON, "both to run")
        assert [row["id"] for row in one.which_children().result(SOON)] == ["x"]
        assert [row["id"] for row in two.which_children().result(SOON)] == ["z"]

    def test_significance_climbs_too(self, system: ActorSystem) -> None:
        """A supervisor that ends with its work, and is significant itself, ends the one above."""
        worker = ChildSpec("worker", thread(Counter), restart="transient", significant=True)
        unit = ChildSpec(
            "unit",
            supervisor(specs=[worker], policy=Policy(auto_shutdown="any_significant")),
            restart="transient",
            significant=True,
        )
        top = system.supervise("top", [unit], policy=Policy(auto_shutdown="all_significant"))
        system.ref("worker").tell(NORMAL)
        assert top.wait_ended(SOON)
        assert top.exit_reason is not None
        assert top.exit_reason.kind == "shutdown"


class TestChildren:
    def test_a_child_with_nothing_to_do_is_no_child(self, system: ActorSystem) -> None:
        """`end()` in `on_start`: the start is answered with None, and the others go on."""
        top = system.supervise("top", [ChildSpec("idle", thread(Idle)), ChildSpec("a", thread(Counter))])
        assert [row["state"] for row in _rows(top)] == ["stopped", "running"]
        assert top.start_child(ChildSpec("late", thread(Idle), restart="temporary")).result(SOON) is None
        assert [row["id"] for row in _rows(top)] == ["idle", "a"]

    def test_a_process_that_cannot_start_has_not_started(self, system: ActorSystem) -> None:
        """Who asked for it hears the exception, nothing is kept of it, and a supervisor made with it does not start."""
        broken = ChildSpec("broken", system.process(ECHO, fails=True))
        with pytest.raises(StartRefused, match=r"(?s)child broken did not start: .*OSError: cannot start"):
            system.supervise("one", [broken])
        top = system.supervise("top")
        for spec in (broken, ChildSpec("missing", system.process("support.echo_actor:Nobody"))):
            with pytest.raises(Refused, match=r"cannot start|no attribute 'Nobody'") as caught:
                top.start_child(spec).result(SOON)
            assert caught.value.code == "start_failed"
        assert _rows(top) == []

    def test_an_unknown_message_is_refused_and_ends_nobody(self, system: ActorSystem) -> None:
        """Told or asked."""
        top = system.supervise("top", [ChildSpec("a", thread(Counter))])
        top.tell("what is this")
        with pytest.raises(Refused, match="takes no str"):
            top.request("and this").result(SOON)
        assert top.count_children().result(SOON)["active"] == 1

    def test_commands_say_no_with_a_code(self, system: ActorSystem) -> None:
        """From the supervisor itself and from a ref to it; where nobody is, that is said."""
        top = system.supervise("top", [ChildSpec("a", thread(Counter))])
        with pytest.raises(Refused) as caught:
            top.delete_child("a").result(SOON)
        assert caught.value.code == "running"
        spec = SupervisorRef(system.registry, "top").get_child_spec("a").result(SOON)
        assert (spec.restart, spec.shutdown, spec.kind) == ("permanent", 5.0, "thread")
        with pytest.raises(Unavailable):
            SupervisorRef(system.registry, "nobody").which_children().result(SOON)

    def test_a_supervisor_answers_while_a_child_fails_to_come_back(self, system: ActorSystem) -> None:
        """The child is called off in the middle of its restart, and started by hand when it can."""
        is_broken, release = threading.Event(), threading.Event()

        class Stuck(Counter):
            def on_start(self) -> None:
                if is_broken.is_set():
                    release.wait(SOON)
                    raise OSError("cannot start")

        top = system.supervise("top", [ChildSpec("s", thread(Stuck))], policy=Policy(max_restarts=8))
        is_broken.set()
        crash(system, "s")
        wait_until(lambda: _rows(top)[0]["state"] == "restarting", SOON, "the child to be restarting")
        for command, code in [
            (top.start_child(ChildSpec("s", thread(Stuck))), "already_present"),
            (top.restart_child("s"), "restarting"),
            (top.delete_child("s"), "restarting"),
        ]:
            with pytest.raises(Refused) as caught:
                command.result(SOON)
            assert caught.value.code == code
        called_off = top.terminate_child("s")
        release.set()
        assert called_off.result(SOON) is None
        assert _rows(top)[0]["state"] == "stopped"
        is_broken.clear()
        assert top.restart_child("s").result(SOON) > 1

    def test_a_pause_is_not_slept_through(self, system: ActorSystem) -> None:
        """A supervisor with a child in its backoff ends at once."""
        patient = ChildSpec("a", thread(Counter), backoff=Backoff(60.0, 60.0))
        top = system.supervise("top", [patient])
        crash(system, "a")
        wait_until(lambda: _rows(top)[0]["state"] == "restarting", SOON, "the pause")
        assert top.stop_and_wait(SOON)

    def test_a_crowd_comes_and_goes(self, system: ActorSystem, reports: Reports) -> None:
        """Three hundred children: started, counted, crashed and back, one limit, stopped at once."""
        size = 300
        crowd = system.supervise(
            "crowd", kind=DynamicSupervisor, policy=Policy(max_restarts=size, max_children=size), prefix="crowd/"
        )
        started = [crowd.start_child(ChildSpec(f"c{number}", thread(Counter))) for number in range(size)]
        assert {future.result(SOON) for future in started} == {1}
        with pytest.raises(Refused) as caught:
            crowd.start_child(ChildSpec("one-too-many", thread(Counter))).result(SOON)
        assert caught.value.code == "max_children"
        for number in range(size):
            crash(system, f"crowd/c{number}")
        wait_until(lambda: {row["epoch"] for row in _rows(crowd)} == {2}, SOON, "all to be back")
        wait_until(lambda: crowd.count_children().result(SOON)["active"] == size, SOON, "all to run")
        assert crowd.stop_and_wait(SOON)
        assert system.registry.addresses() == []


class Breakable(Supervisor):
    """Fails in its own hook when a child exits with the detail `break`."""

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:
        if reason.detail == "break":
            raise RuntimeError("the hook is broken")


class TestAFailedSupervisor:
    def test_its_processes_are_killed_and_its_successor_is_there_at_once(self, system: ActorSystem) -> None:
        """However long they may take to stop: whoever fails itself has no time for manners."""
        patient = ChildSpec("p", system.process(ECHO, deaf=True), shutdown="infinity")
        trigger = ChildSpec("t", thread(Counter))
        top = system.supervise("top", [ChildSpec("s", supervisor(Breakable, specs=[patient, trigger]))])
        first = system.ref("p").ask(do("who"), SOON)["pid"]
        system.ref("t").tell(ExitReason("normal", "break"))
        wait_until(lambda: [row["epoch"] for row in _rows(top)] == [2], SOON, "a second supervisor")
        second = system.ref("p").ask(do("who"), SOON)["pid"]
        assert second != first
        assert not Path(f"/proc/{first}").exists()
        top.kill()
        assert top.wait_ended(SOON)
        assert top.exit_reason == ExitReason("signal", "killed")

    def test_everybody_who_asked_it_something_is_answered(self, system: ActorSystem) -> None:
        """Those it was working for, and those whose question it had not come to."""
        stuck = threading.Event()

        class Slow(Counter):
            def on_start(self) -> None:
                stuck.wait(SOON)

        top = system.supervise("top", [ChildSpec("t", thread(Counter))], kind=Breakable)
        waiting: list[Future[Any]] = [top.start_child(ChildSpec("slow", thread(Slow)))]
        assert _rows(top)[-1]["state"] == "starting"
        system.ref("t").tell(ExitReason("normal", "break"))
        while not top.wait_ended(0.01):
            waiting.append(top.request(StartChild(ChildSpec("x", thread(Counter)))))
            stuck.set()
        for future in waiting:
            assert isinstance(future.exception(SOON), Refused | Unavailable) or future.result() in {1, None}
        assert isinstance(waiting[0].exception(), Refused | Unavailable)
        assert system.registry.addresses() == []

    def test_one_that_fails_in_its_start_leaves_no_child_behind(self, system: ActorSystem) -> None:
        """Also where its children had started before it failed."""

        class Hasty(Supervisor):
            def on_start(self) -> None:
                super().on_start()
                raise OSError("no room")

        with pytest.raises(StartRefused, match="no room"):
            system.supervise("top", [ChildSpec("p", system.process(ECHO))], kind=Hasty)
        wait_until(lambda: system.registry.addresses() == [], SOON, "nobody to be left")

    def test_a_thread_that_cannot_be_ended_is_no_reason_to_start_a_second_one(self, system: ActorSystem) -> None:
        """The failed supervisor says hung, and the one above does not start it again."""
        release = threading.Event()
        specs = [ChildSpec("h", thread(Counter), shutdown=0.05), ChildSpec("t", thread(Counter))]
        top = system.supervise("top", [ChildSpec("s", supervisor(Breakable, specs=specs))])
        hanging = system.registry.find("h")
        assert isinstance(hanging, Actor)
        hanging.tell(release)
        system.ref("t").tell(ExitReason("normal", "break"))
        assert top.wait_ended(SOON)
        assert top.exit_reason is not None
        assert top.exit_reason.kind == "hung"
        release.set()
        assert hanging.wait_ended(SOON)

    def test_a_nested_supervisor_over_its_time_is_ended_by_force(self, system: ActorSystem, reports: Reports) -> None:
        """Its processes are killed; the stop of the one above is an orderly one."""
        patient = ChildSpec("p", system.process(ECHO, deaf=True), shutdown="infinity")
        nested = ChildSpec("s", supervisor(specs=[patient]), shutdown=0.1)
        top = system.supervise("top", [nested])
        pid = system.ref("p").ask(do("who"), SOON)["pid"]
        assert top.stop_and_wait(SOON)
        assert top.exit_reason == SHUTDOWN
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), SOON, "the process to be gone")

    def test_a_killed_supervisor_is_restarted_by_the_one_above(self, system: ActorSystem) -> None:
        """With new children in place of the old ones."""
        nested = ChildSpec("s", supervisor(specs=[ChildSpec("x", thread(Counter, first=1))]))
        top = system.supervise("top", [nested])
        first = system.registry.find("x")
        running = top.running("s")
        assert isinstance(running, Supervisor)
        running.kill()
        wait_until(lambda: system.registry.find("x") not in {None, first}, SOON, "a new child")
        assert _rows(top)[0]["epoch"] == 2


def test_a_starter_of_ones_own_needs_only_the_protocol(system: ActorSystem) -> None:
    """What reports `Started` and then `Exited` is a child; so is a function that starts one of the usual ones."""

    def start(launch: Launch) -> Any:
        return thread(Counter, first=launch.epoch)(launch)

    system.supervise("top", [ChildSpec("c", start)])
    assert system.ref("c").ask("count", SOON) == 1
    crash(system, "c")
    wait_until(lambda: system.ref("c").ask("count", SOON) == 2, SOON, "the second incarnation")


def _rows(top: Supervisor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = top.which_children().result(SOON)
    return rows
