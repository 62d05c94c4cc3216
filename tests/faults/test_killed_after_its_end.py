"""A job's process that is killed when its last word is on disk: the run is over, and nobody takes it up again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fault_world import BEGIN, World

FAILING = BEGIN + "def ingestion(ctx):\n    begin(ctx, 'ingestion')\n    raise ValueError('as planned')\n"
QUICK = BEGIN + "def ingestion(ctx):\n    begin(ctx, 'ingestion')\n    return {'output': {}}\n"


@pytest.mark.parametrize(("pipeline", "last"), [("quick", "JobDone"), ("failing", "JobFailed")])
def test_a_run_that_is_over_is_not_taken_up_again(
    make_world: Callable[..., World], job_id: str, pipeline: str, last: str
) -> None:
    """Killed between its end's barrier and its exit. The job lies in one place, ended once and was started once; its
    slot is free for the next."""
    world = make_world("[jobs]\nmax_running = 1\n")
    later = f"{job_id}l"
    world.workspace.add_pipeline("quick", {"quick": QUICK})
    world.workspace.add_pipeline("failing", {"fail": FAILING}, [{"name": "fail", "maxAttempts": 1}])
    daemon = world.start("runner.ended")
    world.drop(job_id, pipeline)
    world.drop(later, "quick")
    world.wait_until_complete(later)
    assert daemon.stop() == 0
    assert f"{job_id} (epoch 1) ended: signal" in daemon.text_of_log()
    assert [event["type"] for event in world.events(job_id)].count("JobStarted") == 1
    assert world.events(job_id)[-1]["type"] == last
    assert (world.workspace.data / "current" / job_id).exists() is (pipeline == "failing")
    status = world.workspace.status(job_id)
    assert status is not None
    assert (status["state"], status["restarts"]) == ("done" if pipeline == "quick" else "error", 0)
