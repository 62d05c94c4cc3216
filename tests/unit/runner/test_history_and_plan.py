"""What the log says of a run that goes on, and which tasks may start."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import TaskEntry
from pop_actors.runner.history import history_of
from pop_actors.runner.plan import MET, State, is_done, ready, upstream

ERROR = e.ErrorInfo(name="ValueError", message="no")


def at(seconds: float) -> str:
    return timestamp(1_700_000_000 + seconds)


def created() -> e.JobCreated:
    return e.JobCreated(at=at(0), id="j", run_id="r", name="n", pipeline="p", mode="production", tasks=("a", "b"))


def started(task: str, stage: str, second: float, timeout: float) -> e.StageStarted:
    return e.StageStarted(at=at(second), task=task, stage=stage, timeout=timeout)


def test_a_new_run_has_no_past() -> None:
    """Only JobCreated: every task is to be begun."""
    history = history_of([created()])
    assert not history.started
    assert history.of("a").attempt == 0
    assert history.timed_out is None


def test_an_attempt_under_way_goes_on_and_a_failed_one_is_followed() -> None:
    """AttemptFailed leaves the number of the attempt that failed; TaskStarted begins the next one."""
    failed = e.AttemptFailed(at=at(3), task="a", attempt=1, stage="s", reason="exception", error=ERROR, retry_in=2)
    begun = [created(), e.JobStarted(at=at(1), pid=1), e.TaskStarted(at=at(2), task="a", attempt=1)]
    assert history_of(begun).of("a").attempt == 1
    assert history_of([*begun, failed]).of("a").attempt_failed == failed
    again = history_of([*begun, failed, e.TaskStarted(at=at(5), task="a", attempt=2)]).of("a")
    assert (again.attempt, again.attempt_failed) == (2, None)


def test_the_stage_whose_time_was_over_is_to_blame_for_a_timeout() -> None:
    """Of two stages at work, the overdue one; a process that ended for another reason blames none."""
    log: list[Any] = [
        created(),
        started("a", "inference", 1, 100),
        started("b", "parsing", 2, 5),
    ]
    timed_out = history_of([*log, e.ProcessDown(at=at(9), cause="timeout")]).timed_out
    assert timed_out is not None
    assert (timed_out.task, timed_out.stage) == ("b", "parsing")
    assert history_of([*log, e.ProcessDown(at=at(9), cause="signal")]).timed_out is None
    taken_up = [*log, e.ProcessDown(at=at(9), cause="timeout"), e.JobStarted(at=at(10), pid=2)]
    assert history_of(taken_up).timed_out is None


def test_a_finished_stage_is_never_to_blame() -> None:
    """Only what was at work when the process ended can have been overdue."""
    finished = e.StageFinished(at=at(2), task="a", stage="inference")
    log = [created(), started("a", "inference", 1, 1), finished, e.ProcessDown(at=at(9), cause="timeout")]
    assert history_of(log).timed_out is None


def test_a_restart_keeps_the_ends_of_the_tasks_it_does_not_reset() -> None:
    """`--from b`: a stays done, b has no past."""
    done = e.TaskDone(at=at(2), task="a", attempt=1, execution_time=1.0)
    failed = e.TaskFailed(at=at(3), task="b", attempt=3, stage="s", reason="exception", error=ERROR)
    restarted = e.JobRestarted(at=at(4), run_id="r2", reset=("b",), tasks=("a", "b"))
    history = history_of([created(), e.JobStarted(at=at(1), pid=1), done, failed, restarted])
    assert history.of("a").ended == done
    assert history.of("b").attempt == 0
    assert not history.started


def entries(**needs: list[str]) -> list[TaskEntry]:
    return [TaskEntry(name=name, task=name, depends_on=tuple(on)) for name, on in needs.items()]


def test_a_task_starts_when_all_it_depends_on_is_met() -> None:
    """Done, skipped and failed-but-optional all count; in a diamond both sides start together."""
    diamond = entries(a=[], b=["a"], c=["a"], d=["b", "c"])
    states: dict[str, State] = {"a": "done", "b": "pending", "c": "pending", "d": "pending"}
    assert [entry.name for entry in ready(diamond, states)] == ["b", "c"]
    states.update(b="skipped", c="passed")
    assert [entry.name for entry in ready(diamond, states)] == ["d"]
    assert upstream(diamond, "d") == ["a", "b", "c"]
    assert upstream(diamond, "a") == []


def test_what_waits_for_a_skipped_task_waits_for_what_that_one_waited_for() -> None:
    """A task left out of a chain does not let the rest of it overtake what comes before."""
    chain = entries(a=[], b=["a"], c=["b"], d=["c"])
    states: dict[str, State] = {"a": "pending", "b": "skipped", "c": "skipped", "d": "pending"}
    assert [entry.name for entry in ready(chain, states)] == ["a"]
    states["a"] = "gated"
    assert ready(chain, states) == []
    states["a"] = "done"
    assert [entry.name for entry in ready(chain, states)] == ["d"]


def test_nothing_starts_once_a_task_has_failed() -> None:
    """Independent tasks do not start either: the job is lost."""
    assert ready(entries(a=[], b=[]), {"a": "failed", "b": "pending"}) == []


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_any_pipeline_without_a_cycle_comes_to_its_end(shape: list[list[int]], chance: Any) -> None:
    """Whatever the shape and however tasks end, each starts once, after all it depends on, and the run ends."""
    tasks = [
        TaskEntry(name=f"t{i}", task="t", depends_on=tuple({f"t{n % i}" for n in needs} if i else ()))
        for i, needs in enumerate(shape)
    ]
    states: dict[str, State] = {entry.name: "pending" for entry in tasks}
    begun: list[str] = []
    while not is_done(states):
        for entry in ready(tasks, states):
            assert all(states[name] in MET for name in entry.depends_on)
            states[entry.name] = "running"
            begun.append(entry.name)
        running = [name for name, state in states.items() if state == "running"]
        assert running
        states[chance.choice(running)] = chance.choice(["done", "skipped", "passed"])
    assert sorted(begun) == sorted(states)


def test_a_run_that_waits_or_is_over_is_at_rest() -> None:
    """Until a person lets it go on, or a process has taken it up all the same."""
    begun: list[Any] = [created(), e.JobStarted(at=at(1), pid=1)]
    waiting = [*begun, e.JobWaiting(at=at(2), task="a")]
    down = e.ProcessDown(at=at(3), cause="signal", ended=1)
    assert not history_of([*begun, down]).is_at_rest
    assert history_of([*waiting, down]).is_at_rest
    for goes_on in (e.GateApproved(at=at(4), task="a"), e.GateApproved(at=at(4)), e.JobStarted(at=at(4), pid=2)):
        assert not history_of([*waiting, down, goes_on]).is_at_rest
    assert history_of([*begun, e.JobStopped(at=at(2)), down]).is_at_rest


PATCH = e.Patch(task="a", insert_after="a", add=({"name": "x"},))
CODE = e.Code(modules={"x": "x.py"})


def test_what_a_task_added_belongs_to_the_run_once_that_task_is_done() -> None:
    """With the code of it; not what was noted in an attempt that is made again."""
    taken = e.ControlTaken(at=at(2), task="a", patch=PATCH, code=CODE)
    done = e.TaskDone(at=at(4), task="a", attempt=1, execution_time=1.0)
    assert history_of([created(), taken]).patches == ()
    assert history_of([created(), taken, done]).patches == (PATCH,)
    assert history_of([created(), taken, done]).code == CODE
    again = e.TaskStarted(at=at(3), task="a", attempt=2)
    assert history_of([created(), taken, again, done]).patches == ()
    assert history_of([created(), taken, taken, done]).patches == (PATCH,)


def test_a_restart_keeps_what_was_added_by_a_task_it_keeps() -> None:
    """What was added by one that runs again is no task of the new run at first, and has no past in it."""
    taken = e.ControlTaken(at=at(2), task="a", patch=PATCH)
    done = [e.TaskDone(at=at(3), task=name, attempt=1, execution_time=1.0) for name in ("a", "x")]
    kept = e.JobRestarted(at=at(4), run_id="r2", reset=("b",), tasks=("a", "x", "b"))
    assert history_of([created(), taken, *done, kept]).patches == (PATCH,)
    gone = history_of([created(), taken, *done, e.JobRestarted(at=at(4), run_id="r2", reset=("a",), tasks=("a", "b"))])
    assert gone.patches == ()
    assert gone.of("x").ended is None
