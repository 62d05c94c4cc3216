"""Names and time stamps."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core import ids


@pytest.mark.parametrize("text", ["a", "9", "job-1", "A_b-C", "x" * 128])
def test_these_name_jobs(text: str) -> None:
    """A job id comes back out of the name of its seed."""
    assert ids.is_job_id(text)
    assert ids.job_id_of_seed_file(ids.seed_file_name(text)) == text


@pytest.mark.parametrize("text", ["", "-a", "_a", ".a", "a.b", "a b", "a/b", "../a", "ä", "a\n", "١", "x" * 129])
def test_these_do_not(text: str) -> None:
    """Nothing that could leave a folder, hide, or look like something else."""
    assert not ids.is_job_id(text)
    assert ids.job_id_of_seed_file(ids.seed_file_name(text)) is None


@pytest.mark.parametrize("name", ["a.json", "-seed.json", "a-seed.json.tmp", "a-seed.JSON", "aseed.json"])
def test_other_files_are_no_seeds(name: str) -> None:
    """Only `{jobId}-seed.json` is one."""
    assert ids.job_id_of_seed_file(name) is None


def test_an_id_may_itself_end_like_a_seed() -> None:
    """Only the last `-seed.json` is taken off."""
    assert ids.job_id_of_seed_file("a-seed-seed.json") == "a-seed"


def test_task_names_are_half_as_long() -> None:
    """64 characters at most."""
    assert ids.is_task_name("x" * 64)
    assert not ids.is_task_name("x" * 65)


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_a_stamp_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    """Stamps keep milliseconds, and sort as the moments do."""
    seconds = milliseconds / 1000
    stamp = ids.timestamp(seconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert abs(ids.seconds_of(stamp) - seconds) < 0.002
    assert ids.timestamp(seconds + 1) > stamp


@given(st.floats(min_value=-1e9, max_value=4e9) | st.integers(0, 4_000_000_000).map(lambda whole: whole + 0.9999999))
def test_a_stamp_is_what_the_calendar_says(seconds: float) -> None:
    """Also where the moment rounds up to the next second, and before 1970."""
    moment = datetime.fromtimestamp(seconds, UTC)
    assert ids.timestamp(seconds) == f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def test_a_run_id_looks_as_documented() -> None:
    """The storage documentation's own example."""
    assert ids.run_id(1759387049.98, "0d57ec") == "pl-2025-10-02T06-37-29-980Z-0d57ec"
