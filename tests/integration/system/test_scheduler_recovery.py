"""What a start leaves the scheduler: many unfinished jobs, damaged ones among them, and epochs nobody may get twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduler_world import AT, SOON, Recorder, World

from pop_actors.core import events as e
from pop_actors.storage.layout import JobDirectory
from pop_actors.system import messages as m

STARTED = e.JobStarted(at=AT, epoch=1, seq=1, pid=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def lost(world: World) -> list[e.ProcessDown]:
    """What it had noted of processes that are gone; the notes are on disk now."""
    asked = world.writer.take_asked()
    for _, done in asked:
        done.set_result(None)
    world.settle()
    return [note.event for note, _ in asked]


def orders(world: World) -> list[tuple[str, int]]:
    return [(order.spec.job_id, order.epoch) for order in world.jobs.take() if isinstance(order, m.StartJob)]


def test_an_epoch_given_out_is_never_given_again(world: World) -> None:
    """Its process died with the supervisor before anybody heard of it: the status still says `pending`."""
    world.run(world.seed("a"))
    world.put_job("a")  # as if its JobStarted were still on the way
    world.tell(m.JobsUp())
    (down,) = lost(world)
    assert (down.ended, orders(world)) == (1, [("a", 2)])
    world.tell(m.JobsUp())
    (down,) = lost(world)
    assert (down.ended, orders(world)) == (2, [("a", 3)])


def test_a_supervisors_own_restarts_count(world: World) -> None:
    """It told the board which epochs it gave; a new scheduler goes on behind them."""
    world.run(world.seed("a"))
    world.board.give_epoch("a", 4)
    assert world.scheduler.stop_and_wait(SOON)
    world.writer.take()
    world.start()
    world.tell(m.JobsUp())
    (down,) = lost(world)
    assert (down.ended, orders(world)) == (4, [("a", 5)])


def test_the_epochs_of_a_job_that_is_gone_are_forgotten(world: World) -> None:
    """The board does not grow with the jobs there have been."""
    world.run(world.seed("a"))
    assert world.board.last_epoch("a") == 1
    world.end("a")
    world.board.give_epoch("a", 2)
    assert world.board.last_epoch("a") == 0


def test_no_seed_is_read_before_its_job_has_a_slot(world: World) -> None:
    """A thousand are there; only those that start are looked at, however many are in the way of each other."""
    for number in range(1000):
        world.put_job(f"j{number:04}", *([STARTED] if number < 200 else []), conflicts=(f"x{number % 500}",))
        if number >= 2:
            world.workspace.job(f"j{number:04}").seed.unlink()
    world.tell(m.JobsUp())
    assert [down.cause for down in lost(world)] == ["lost", "lost"]
    assert orders(world) == [("j0000", 2), ("j0001", 2)]
    assert world.writer.take() == []


def test_what_was_under_way_holds_its_locks_before_what_waited(world: World) -> None:
    """Also where the log is from before conflicts were noted in it: then the seed is asked."""
    world.put_job("early", conflicts=("x",))
    world.put_job("late", STARTED, conflicts=None)
    world.workspace.job("late").seed.write_bytes(b'{"data": {}, "conflicts": ["x"]}')
    world.tell(m.JobsUp())
    lost(world)
    assert orders(world) == [("late", 2)]
    world.end("late")
    assert orders(world) == [("early", 1)]


def no_seed(directory: JobDirectory) -> None:
    directory.seed.unlink()


def garbage_seed(directory: JobDirectory) -> None:
    directory.seed.write_bytes(b"\0" * 64)


def no_pipeline(directory: JobDirectory) -> None:
    directory.pipeline.unlink()


def torn_pipeline(directory: JobDirectory) -> None:
    directory.pipeline.write_bytes(directory.pipeline.read_bytes()[:20])


def folder_for_pipeline(directory: JobDirectory) -> None:
    directory.pipeline.unlink()
    directory.pipeline.mkdir()


@pytest.mark.parametrize("damage", [no_seed, garbage_seed, no_pipeline, torn_pipeline, folder_for_pipeline])
def test_a_job_whose_files_are_damaged_ends_alone(world: World, damage: object) -> None:
    """In error, with the reason and the file; the next one has its slot, and its locks."""
    world.put_job("bad", conflicts=("x",))
    world.put_job("good", conflicts=("x",))
    damage(world.workspace.job("bad"))  # type: ignore[operator]
    world.tell(m.JobsUp())
    (note,) = world.writer.take()
    assert (note.job_id, note.event.type, note.event.reason) == ("bad", "JobFailed", "load")
    assert str(world.workspace.job("bad").path) in note.event.error.message
    assert orders(world) == [("good", 1)]


def test_a_start_that_is_refused_ends_the_job(world: World) -> None:
    """Its process never came to be, and will not: it does not wait for ever."""
    world.run(world.seed("a"))
    world.put_job("a")
    world.tell(m.JobEnded("a", gave_up=True))
    (note,) = world.writer.take()
    assert (note.job_id, note.event.type, note.event.reason) == ("a", "JobFailed", "crashed")


def test_a_job_that_was_suspended_alone_goes_on(world: World) -> None:
    """The service does not stop: whoever told it to leave, nobody else takes it up."""
    world.run(world.seed("a"))
    world.put_job("a", STARTED, e.JobSuspended(at=AT, epoch=1, seq=2))
    world.tell(m.JobEnded("a", gave_up=False))
    assert (world.writer.take(), orders(world)) == ([], [("a", 2)])


def test_who_is_asked_what_runs_may_answer_at_once(world: World) -> None:
    """The scheduler is there to hear it."""

    class Prompt(Recorder):
        def tell(self, message: object) -> None:
            if message == m.SchedulerUp():
                world.registry.ref(m.SCHEDULER).tell(m.JobsUp())
            super().tell(message)

    assert world.scheduler.stop_and_wait(SOON)
    world.put_job("a")
    world.jobs = Prompt()
    world.registry.register(m.JOBS, world.jobs)
    world.launch()
    assert world.starts() == ["a"]


@pytest.mark.parametrize("news", [m.JobsUp(), m.StatusWriterUp()])
def test_a_job_whose_end_is_being_noted_is_not_taken_up(world: World, news: object) -> None:
    """Whoever comes back meanwhile: the board does not show the end yet."""
    world.run(world.seed("a"))
    world.tell(m.JobEnded("a", gave_up=False))
    ((_, noted),) = world.writer.take_asked()
    world.tell(news)
    assert (world.writer.take(), orders(world)) == ([], [])
    world.put_job("a", STARTED, e.JobStopped(at=AT))
    noted.set_result(None)
    world.tell(news)
    assert (world.writer.take(), orders(world)) == ([], [])


def test_a_job_that_ended_while_its_loss_was_noted_does_not_start(world: World) -> None:
    """The note came behind the end in its log; the slot goes to the next."""
    world.put_job("a", STARTED)
    world.put_job("b", STARTED)
    world.put_job("c")
    world.tell(m.JobsUp())
    world.put_job("a", STARTED, e.JobStopped(at=AT))
    lost(world)
    assert sorted(orders(world)) == [("b", 2), ("c", 1)]


def test_a_supervisor_that_dies_twice_is_ordered_once(world: World) -> None:
    """The first start's note is answered after the second one was begun."""
    world.put_job("a", STARTED)
    world.tell(m.JobsUp())
    world.tell(m.JobsUp())
    note, *more = world.writer.take_asked()
    assert not more
    note[1].set_result(None)
    world.settle()
    lost(world)
    assert orders(world) == [("a", 2)]


def test_a_claimed_job_that_was_removed_holds_nothing(world: World) -> None:
    """Somebody deleted its directory before it had a slot."""
    world.run(world.seed("s0"), world.seed("s1"), world.seed("a", conflicts=["x"]))
    world.board.drop_job("a")
    world.find(world.seed("b", conflicts=["x"]))
    assert world.claims() == []
    world.end("s0")
    assert world.claims() == ["b"]


def test_a_stop_says_which_end_came_first(world: World) -> None:
    """The job failed while its stop was on the way to the disk."""
    world.run(world.seed("a"))
    answer = world.ask(m.StopJob("a"))
    world.tell(m.JobEnded("a", gave_up=False))
    ((_, noted),) = world.writer.take_asked()
    failed = e.JobFailed(at=AT, reason="crashed", error=e.ErrorInfo(name="n", message="m"))
    world.put_job("a", STARTED, failed)
    noted.set_result(None)
    assert answer.result(SOON) == "error"
