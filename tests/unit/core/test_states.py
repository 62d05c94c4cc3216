"""The table of a job's states."""

from __future__ import annotations

import pytest

from pop_actors.core.states import AT_REST, ENDED, JOB_MOVES, JOB_STATES, JobState, is_job_state, may_move


def test_the_table_is_closed() -> None:
    """Every state has a row, and rows lead to states only."""
    assert set(JOB_MOVES) == set(JOB_STATES)
    assert set().union(*JOB_MOVES.values()) <= set(JOB_STATES)


def test_every_state_can_be_reached_and_left() -> None:
    """From pending a job can come to every state, and from every state on to another."""
    reached: set[JobState] = {"pending"}
    while (more := set().union(*(JOB_MOVES[state] for state in reached)) | reached) != reached:
        reached = more
    assert reached == set(JOB_STATES)
    assert all(JOB_MOVES[state] - {state} for state in JOB_STATES)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_only_a_new_run_leads_on_from_an_end(state: JobState) -> None:
    """What ended begins again as pending, or not at all."""
    assert [after for after in JOB_STATES if may_move(state, after)] == ["pending"]


@pytest.mark.parametrize("state", sorted(AT_REST))
def test_what_is_at_rest_runs_again_only_over_a_decision(state: JobState) -> None:
    """An end, or a way on that a person opens; it does not become done by itself."""
    assert not may_move(state, "done")
    assert may_move(state, "pending")


def test_other_words_are_no_states() -> None:
    """`list --state` can tell a typo."""
    assert is_job_state("waiting")
    assert not is_job_state("finished")
