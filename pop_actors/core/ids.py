"""The names things go by: job ids, run ids, task names and time stamps. Pure: clocks and randomness are handed in."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import lru_cache

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
SEED_SUFFIX = "-seed.json"
_MICROSECONDS = 1_000_000


def is_job_id(text: str) -> bool:
    """Whether `text` may name a job: letters, digits, `_` and `-`, at most 128, beginning with a letter or digit."""
    return JOB_ID.fullmatch(text) is not None


def is_task_name(text: str) -> bool:
    """Whether `text` may name a task of a pipeline."""
    return TASK_NAME.fullmatch(text) is not None


def job_id_of_seed_file(file_name: str) -> str | None:
    """The job id in `{jobId}-seed.json`, or None where the file name is not of that form."""
    if not file_name.endswith(SEED_SUFFIX):
        return None
    job_id = file_name.removesuffix(SEED_SUFFIX)
    return job_id if is_job_id(job_id) else None


def seed_file_name(job_id: str) -> str:
    """The name of the job's seed in the drop box."""
    return f"{job_id}{SEED_SUFFIX}"


def timestamp(seconds: float) -> str:
    """ISO-8601 UTC with milliseconds and `Z`, from seconds since the epoch."""
    fraction, whole = math.modf(seconds)
    microseconds = round(fraction * _MICROSECONDS)
    if not 0 <= microseconds < _MICROSECONDS:  # rounded up to the next second, or before 1970
        whole, microseconds = whole + microseconds // _MICROSECONDS, microseconds % _MICROSECONDS
    return f"{_to_the_second(whole)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(seconds: float) -> str:
    """Kept, since most of what happens happens within the same second as what was before."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def seconds_of(stamp: str) -> float:
    """Seconds since the epoch of a time stamp made by `timestamp`. ValueError where it is not one."""
    return datetime.fromisoformat(stamp).timestamp()


def run_id(seconds: float, token: str) -> str:
    """`pl-{timestamp}-{6 hex}`: the stamp with `-` for `:` and `.`, as in `pl-2025-10-02T06-37-29-980Z-0d57ec`."""
    return f"pl-{timestamp(seconds).replace(':', '-').replace('.', '-')}-{token}"
