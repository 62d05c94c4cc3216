"""The scheduler: slots, rank, dependencies, conflicts, stops in every phase, and what restarts of others leave it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduler_world import AT, SOON, World

from pop_actors.core import events as e
from pop_actors.errors import Refused
from pop_actors.system import messages as m
from support.daemon import wait_until

STARTED = e.JobStarted(at=AT, epoch=1, seq=1, pid=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_slots_are_never_exceeded(world: World) -> None:
    """Two run; as many again are claimed ahead and start the moment a slot is free, in order."""
    seeds = [world.seed(f"s{number}") for number in range(8)]
    world.find(*seeds)
    started: list[str] = []
    running: set[str] = set()
    by_id = {seed.job_id: seed for seed in seeds}
    for _ in range(8):
        for job_id in world.claims():
            world.claimed(by_id[job_id])
        new = world.starts()
        started += new
        running |= set(new)
        assert len(running) <= 2
        world.end(running.pop())
    assert started + world.starts() == [seed.job_id for seed in seeds]


def test_seeds_are_claimed_by_priority_then_age_then_id(world: World) -> None:
    """Whatever order they were found in."""
    old, urgent, new = world.seed("old"), world.seed("urgent", priority=5), world.seed("new")
    world.find(new, old, urgent)
    assert world.claims() == ["urgent", "old", "new"]


def test_a_job_claimed_ahead_lets_a_higher_seed_pass(world: World) -> None:
    """It was claimed while the slots were full; what is more urgent starts before it."""
    world.run(*[world.seed(f"s{number}") for number in range(4)])
    urgent = world.seed("urgent", priority=9)
    world.find(urgent)
    assert world.claims() == ["urgent"]
    world.claimed(urgent)
    world.end("s0")
    assert world.starts() == ["urgent"]
    world.end("s1")
    assert world.starts() == ["s2"]


def test_a_seed_waits_for_those_it_depends_on(world: World) -> None:
    """Until they lie in complete/, not only until their process is gone."""
    first, second = world.seed("first"), world.seed("second", depends_on=["first"])
    world.find(second, first)
    assert world.claims() == ["first"]
    world.claimed(first)
    world.tell(m.JobEnded("first", gave_up=False))
    assert world.claims() == []
    world.end("first")
    assert world.claims() == ["second"]


def test_seeds_that_conflict_run_one_after_the_other(world: World) -> None:
    """Others pass them meanwhile."""
    one, two, other = world.seed("one", conflicts=["x"]), world.seed("two", conflicts=["x"]), world.seed("other")
    world.find(one, two, other)
    assert world.claims() == ["one", "other"]
    world.claimed(one)
    assert world.starts() == ["one"]
    world.end("one")
    assert world.claims() == ["two"]


def test_a_stopped_job_that_never_ran_frees_what_it_held(world: World) -> None:
    """Its lock goes to the next, and a slot that becomes free does not start it."""
    world.run(world.seed("a"), world.seed("b"))
    ahead, next_one = world.seed("ahead", conflicts=["x"]), world.seed("next", conflicts=["x"])
    world.run(ahead)
    world.find(next_one)
    assert world.claims() == []
    answer = world.ask(m.StopJob("ahead"))
    (noted, done), *rest = world.writer.take_asked()
    assert isinstance(noted.event, e.JobStopped)
    assert [message.seed.job_id for message, _ in rest] == ["next"]
    world.end("a")
    assert world.starts() == []
    assert not answer.done()
    done.set_result(None)
    assert answer.result(SOON) == "stopped"


def test_a_seed_that_waits_cannot_be_stopped(world: World) -> None:
    """Its file is the operator's to remove."""
    world.find(world.seed("held", depends_on=["nobody"]))
    with pytest.raises(Refused) as refused:
        world.ask(m.StopJob("held")).result(SOON)
    assert refused.value.code == "waiting"


@pytest.mark.parametrize("state", ["unknown", "error", "stopped"])
def test_what_is_not_there_to_stop_is_refused(world: World, state: str) -> None:
    """With a code that says why."""
    if state == "error":
        world.put_job("x", e.JobFailed(at=AT, reason="crashed", error=e.ErrorInfo(name="n", message="m")))
    elif state == "stopped":
        world.put_job("x", e.JobStopped(at=AT))
    with pytest.raises(Refused) as refused:
        world.ask(m.StopJob("x")).result(SOON)
    assert refused.value.code == ("not_found" if state == "unknown" else "not_running")


def test_a_stop_during_the_claim_waits_for_it(world: World) -> None:
    """The job is there then, and stopped before it ever started."""
    seed = world.seed("a")
    world.find(seed)
    answer = world.ask(m.StopJob("a"))
    assert not answer.done()
    world.writer.take()
    world.claimed(seed)
    assert world.starts() == []
    ((noted, done),) = world.writer.take_asked()
    assert isinstance(noted.event, e.JobStopped)
    done.set_result(None)
    assert answer.result(SOON) == "stopped"


def test_a_stop_of_a_claim_that_fails_is_refused(world: World) -> None:
    """There is no job to stop."""
    world.find(world.seed("a"))
    answer = world.ask(m.StopJob("a"))
    world.tell(m.ClaimFailed("a", "its file is gone", retry=False))
    with pytest.raises(Refused, match="its file is gone"):
        answer.result(SOON)


def test_a_stop_of_a_running_job_is_answered_when_its_process_is_gone(world: World) -> None:
    """And the status says so on disk."""
    world.run(world.seed("a"))
    answer = world.ask(m.StopJob("a"))
    assert world.jobs.take() == [m.EndJob("a", suspend=False)]
    world.tell(m.JobEnded("a", gave_up=False))
    ((noted, done),) = world.writer.take_asked()
    assert isinstance(noted.event, e.JobStopped)
    assert not answer.done()
    done.set_result(None)
    assert answer.result(SOON) == "stopped"


def test_a_stop_that_came_too_late_says_how_the_job_ended(world: World) -> None:
    """It was done before its process could be ended."""
    world.run(world.seed("a"))
    answer = world.ask(m.StopJob("a"))
    world.end("a")
    assert answer.result(SOON) == "done"
    assert world.writer.take() == []


def test_a_job_stopped_while_its_resume_is_being_noted_does_not_start(world: World) -> None:
    """The note comes late; the order to start it is dropped."""
    world.put_job("a", STARTED)
    world.tell(m.JobsUp())
    ((noted, done),) = world.writer.take_asked()
    assert isinstance(noted.event, e.ProcessDown)
    world.ask(m.StopJob("a"))
    world.tell(m.JobEnded("a", gave_up=False))
    done.set_result(None)
    world.settle()
    assert world.jobs.take() == [m.EndJob("a", suspend=False)]


def test_suspend_waits_for_everything_that_runs(world: World) -> None:
    """Nothing is started or claimed any more, also not when a slot becomes free."""
    world.run(world.seed("a"), world.seed("b"), world.seed("c"))
    quiet = world.ask(m.SuspendAll())
    ended = world.jobs.take()
    assert sorted(order.job_id for order in ended) == ["a", "b"]
    assert all(order.suspend for order in ended)
    world.find(world.seed("late"))
    world.tell(m.JobEnded("a", gave_up=False))
    assert not quiet.done()
    world.tell(m.JobEnded("b", gave_up=False))
    assert quiet.result(SOON) is None
    assert (world.claims(), world.starts()) == ([], [])


def test_paused_claiming_leaves_seeds_and_lets_jobs_run(world: World) -> None:
    """What was claimed ahead still starts; seeds wait until it is on again."""
    world.run(world.seed("a"), world.seed("b"), world.seed("c"))
    world.ask(m.SetClaiming(on=False)).result(SOON)
    world.find(world.seed("d"))
    world.end("a")
    assert (world.claims(), world.starts()) == ([], ["c"])
    world.ask(m.SetClaiming(on=True)).result(SOON)
    assert world.claims() == ["d"]


def test_a_new_jobs_supervisor_takes_up_what_ran(world: World) -> None:
    """Oldest first, as far as there are slots, each with the next epoch; the loss is noted before it starts."""
    world.run(world.seed("a"), world.seed("b"), world.seed("c"))
    world.tell(m.JobsUp())
    notes = world.writer.take_asked()
    assert [note.job_id for note, _ in notes] == ["a", "b"]
    assert {note.event.type for note, _ in notes} == {"ProcessDown"}
    assert world.jobs.take() == []
    for _, done in notes:
        done.set_result(None)
    world.settle()
    orders = world.jobs.take()
    assert [(order.spec.job_id, order.epoch, order.spec.resumed) for order in orders] == [
        ("a", 2, True),
        ("b", 2, True),
    ]
    world.end("a")
    assert world.starts() == ["c"]


def test_a_stop_that_was_under_way_when_the_jobs_supervisor_died_is_carried_out(world: World) -> None:
    """The job is not taken up again."""
    world.run(world.seed("a"))
    answer = world.ask(m.StopJob("a"))
    world.jobs.take()
    world.tell(m.JobsUp())
    ((noted, done),) = world.writer.take_asked()
    assert isinstance(noted.event, e.JobStopped)
    done.set_result(None)
    assert answer.result(SOON) == "stopped"
    assert world.starts() == []


def test_a_new_scheduler_knows_the_seeds_and_what_runs(world: World) -> None:
    """It starts nothing before the jobs supervisor has told it what runs; then slots and queue are as before."""
    world.run(world.seed("a"), world.seed("b"))
    for name in ("c", "d", "e"):
        world.find(world.seed(name, depends_on=["a"]))
    assert world.scheduler.stop_and_wait(SOON)
    world.start()
    world.complete.add("a")
    world.settle()
    assert (world.claims(), world.starts()) == ([], [])
    world.tell(m.JobsUp(("a", "b")))
    assert (world.claims(), world.starts()) == (["c", "d"], [])
    world.end("a")
    assert world.claims() == ["e"]


def test_a_new_status_writer_leaves_no_claim_undone(world: World) -> None:
    """What it found as a job is started; of the rest the seeds are looked for again."""
    made, lost = world.seed("made"), world.seed("lost")
    world.find(made, lost)
    world.put_job("made")
    world.tell(m.StatusWriterUp())
    assert world.starts() == ["made"]
    assert world.watcher.take() == [m.LookAgain()]
    world.claims()
    world.find(lost)
    assert world.claims() == ["lost"]


def test_a_new_status_writer_wakes_what_waited_for_a_departure(world: World) -> None:
    """It may have been moved without anybody being told."""
    world.find(world.seed("after", depends_on=["before"]))
    world.complete.add("before")
    assert world.claims() == []
    world.tell(m.StatusWriterUp())
    assert world.claims() == ["after"]


def test_a_claim_the_disk_refused_is_tried_again(world: World) -> None:
    """The watcher finds the seed anew; no claim is made for a second."""
    seed = world.seed("a")
    world.find(seed)
    assert world.claims() == ["a"]
    world.tell(m.ClaimFailed("a", "no space left", retry=True))
    assert world.watcher.take() == [m.LookAgain("a")]
    world.find(seed)
    assert world.claims() == []
    wait_until(lambda: world.claims() == ["a"], SOON, "the claim to be tried again")


def test_a_job_whose_process_leaves_without_a_word_is_in_error(world: World) -> None:
    """It says `running`, and nothing runs it."""
    world.run(world.seed("a"))
    world.tell(m.JobEnded("a", gave_up=False))
    (noted,) = world.writer.take()
    assert (noted.job_id, noted.event.type, noted.event.reason) == ("a", "JobFailed", "crashed")


def test_a_restart_is_begun_on_disk_and_then_queued(world: World) -> None:
    """The operator gets the new run id; a job that runs is refused."""
    world.put_job("a", e.JobFailed(at=AT, reason="crashed", error=e.ErrorInfo(name="n", message="m")))
    answer = world.ask(m.RestartJob("a", "two", only=True))
    ((begin, done),) = world.writer.take_asked()
    assert (begin.event.reset, begin.event.run_id[:3]) == (("two",), "pl-")
    world.put_job("a")
    done.set_result(world.board.job("a"))
    assert answer.result(SOON) == {"id": "a", "pipelineId": "pl-a"}
    world.settle()
    assert world.starts() == ["a"]
    with pytest.raises(Refused) as refused:
        world.ask(m.RestartJob("a")).result(SOON)
    assert refused.value.code == "running"
    with pytest.raises(Refused) as refused:
        world.ask(m.RestartJob("nobody")).result(SOON)
    assert refused.value.code == "not_found"


def test_a_seed_that_is_gone_is_not_claimed(world: World) -> None:
    """Also where it comes back as it was: once."""
    world.run(*[world.seed(f"s{number}") for number in range(4)])
    seed = world.seed("a")
    world.find(seed)
    world.tell(m.SeedGone("a"))
    world.find(seed)
    world.tell(m.SeedGone("a"))
    world.find(seed)
    for job_id in ("s0", "s1"):
        world.end(job_id)
    assert world.claims() == ["a"]
