"""Routes about jobs: lists, one job, its files, its history, and what can be done to it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pop_actors.api.envelope import Answer, answer
from pop_actors.api.parts import FAULTS, MUTATION_FAULTS, Parts
from pop_actors.api.task_files import describe, read_piece
from pop_actors.core.ids import is_job_id, is_task_name
from pop_actors.core.states import JobState
from pop_actors.errors import Refused
from pop_actors.storage.layout import FILE_KINDS

Limit = Annotated[int, Query(ge=1, le=10000)]
JobIdParameter = Annotated[str | None, Query(alias="jobId")]
LONGEST_NOTE = 10_000
_SEED_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


class Restart(BaseModel):
    """From which task on a job runs again: all of it, from a task, or that task only."""

    model_config = ConfigDict(extra="forbid")

    from_task: str | None = Field(None, alias="from")
    only: bool = False


class Decision(BaseModel):
    """What a person decided about a job that waits at a gate. `task` guards against deciding on another task's."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "reject"]
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""
    task: str | None = None


def job_routes(parts: Parts) -> APIRouter:
    """What reads."""
    router = APIRouter(prefix="/api", tags=["jobs"], responses=FAULTS)
    control, run = parts.control, parts.calls.run

    @router.get("/jobs", response_model=Answer, summary="Jobs not finished; with all=true, finished ones too")
    async def jobs(
        include_finished: Annotated[bool, Query(alias="all")] = False,
        state: JobState | None = None,
        limit: Limit = 1000,
    ) -> Response:
        return answer(await run(control.jobs, include_finished or state == "done", state, limit))

    @router.get("/jobs/{job_id}", response_model=Answer, summary="A job's status document")
    async def job(job_id: str) -> Response:
        return answer(await run(control.job, _known_form(job_id)))

    @router.get("/runs", response_model=Answer, summary="Finished runs, newest first")
    async def runs(limit: Limit = 100, job_id: JobIdParameter = None) -> Response:
        return answer(await run(control.runs, limit, job_id))

    @router.get("/jobs/{job_id}/tasks/{task}/files", response_model=Answer, summary="What a task wrote")
    async def files(job_id: str, task: str, kind: Annotated[str, Query(alias="type")] = "artifacts") -> Response:
        _check_place(job_id, task, kind)
        return answer(await run(describe, control, job_id, task, kind))

    @router.get("/jobs/{job_id}/tasks/{task}/file", response_model=Answer, summary="One file, in pieces from an offset")
    async def file(
        job_id: str,
        task: str,
        filename: str,
        kind: Annotated[str, Query(alias="type")] = "artifacts",
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> Response:
        _check_place(job_id, task, kind)
        return answer(await run(read_piece, control, job_id, task, kind, filename, offset))

    return router


def job_action_routes(parts: Parts) -> APIRouter:
    """What changes something."""
    router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=MUTATION_FAULTS)
    control, run = parts.control, parts.calls.run

    @router.post("", response_model=Answer, status_code=201, summary="Submit a seed", openapi_extra=_SEED_BODY)
    async def submit(request: Request, job_id: JobIdParameter = None) -> Response:
        content = await request.body()
        if job_id is not None and not is_job_id(job_id):
            raise Refused("invalid_request", f"{job_id!r} is no job id: letters, digits, _ and -, at most 128")
        return answer({"id": await run(control.submit, content, job_id)}, 201)

    @router.post("/{job_id}/stop", response_model=Answer, summary="Stop a job for good")
    async def stop(job_id: str) -> Response:
        await run(control.stop, _known_form(job_id))
        return answer({"id": job_id})

    @router.post("/{job_id}/restart", response_model=Answer, summary="Begin a new run of a job that has ended")
    async def restart(job_id: str, body: Restart | None = None) -> Response:
        wanted = body or Restart()
        if wanted.only and wanted.from_task is None:
            raise Refused("invalid_request", "`only` needs `from`: the one task to run again")
        return answer(await run(control.restart, _known_form(job_id), wanted.from_task, wanted.only))

    @router.post("/{job_id}/gate", response_model=Answer, summary="Approve or reject what a job waits for at a gate")
    async def gate(job_id: str, body: Decision) -> Response:
        approve = body.decision == "approve"
        return answer(await run(control.decide_gate, _known_form(job_id), approve, body.note, body.task))

    return router


def _known_form(job_id: str) -> str:
    if not is_job_id(job_id):
        raise Refused("not_found", f"no job {job_id!r}")
    return job_id


def _check_place(job_id: str, task: str, kind: str) -> None:
    _known_form(job_id)
    if not is_task_name(task):
        raise Refused("not_found", f"no task {task!r}")
    if kind not in FILE_KINDS:
        raise Refused("invalid_request", f"type = {kind!r}: one of {', '.join(FILE_KINDS)}")
