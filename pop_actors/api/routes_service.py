"""Routes about the service: its tree, limits, modes, pipelines, events, health, metrics and the status page."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from pop_actors.api.envelope import Answer, answer, fault
from pop_actors.api.parts import FAULTS, MUTATION_FAULTS, Parts
from pop_actors.api.stream import EventStream
from pop_actors.core.ids import JOB_ID

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SSE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
PAGE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Repair(BaseModel):
    """Which job's files are to be put right; none is named: all that were set aside."""

    model_config = ConfigDict(extra="forbid")

    job: Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")] | None = None


def service_routes(parts: Parts) -> APIRouter:
    """What reads."""
    router = APIRouter(prefix="/api", tags=["service"], responses=FAULTS)
    control, run = parts.control, parts.calls.run

    questions: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("tree", "The supervision tree", control.tree),
        ("gateway", "Limits and state per provider and model", control.gateway),
        ("state", "The service at a glance", control.state),
        ("meta", "What runs here", control.meta),
        ("concurrency", "The slots and who has them", control.concurrency),
        ("pipelines", "The registry's pipelines", control.pipelines),
    )
    for name, summary, question in questions:
        _add_question(router, parts, name, summary, question)

    @router.get("/pipelines/{slug}", response_model=Answer, summary="One pipeline with its tasks")
    async def pipeline(slug: str) -> Response:
        return answer(await run(control.pipeline, slug))

    @router.get(
        "/events", response_class=StreamingResponse, responses=_SSE, summary="What happens, as it happens (SSE)"
    )
    async def events(
        job_id: Annotated[str | None, Query(alias="jobId")] = None,
        follow: bool = True,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        return EventStream(parts.ring, job_id, last_event_id, follow=follow, heartbeat=parts.heartbeat_seconds)

    return router


def _add_question(router: APIRouter, parts: Parts, name: str, summary: str, question: Callable[[], Any]) -> None:
    async def ask() -> Response:
        return answer(await parts.calls.run(question))

    router.add_api_route(f"/{name}", ask, response_model=Answer, summary=summary, name=name)


def service_action_routes(parts: Parts) -> APIRouter:
    """What changes something."""
    router = APIRouter(prefix="/api/service", tags=["service"], responses=MUTATION_FAULTS)
    control = parts.control
    orders: tuple[tuple[str, str, Callable[[], None]], ...] = (
        ("pause", "Claim no more seeds", control.pause_claiming),
        ("resume", "Claim seeds again", control.resume_claiming),
        ("shutdown", "Stop popd", control.shutdown),
        ("reload", "Read the settings again", control.reload),
    )
    for name, summary, order in orders:
        _add_order(router, parts, name, summary, order)

    @router.post("/repair", response_model=Answer, summary="Put the files of damaged jobs right: of one, or of all")
    async def repair(body: Repair | None = None) -> Response:
        return answer(await parts.calls.run(control.repair, None if body is None else body.job))

    return router


def _add_order(router: APIRouter, parts: Parts, name: str, summary: str, order: Callable[[], None]) -> None:
    async def give() -> Response:
        await parts.calls.run(order)
        return answer({"done": name})

    router.add_api_route(f"/{name}", give, methods=["POST"], response_model=Answer, summary=summary, name=name)


def probe_routes(parts: Parts) -> APIRouter:
    """Health, metrics, and the page."""
    router = APIRouter(tags=["probes"])
    control, calls = parts.control, parts.calls

    @router.get("/healthz", response_model=Answer, summary="Whether popd works; 503 with the reasons where not")
    async def healthz() -> Response:
        return _verdict("healthy", "unhealthy", await calls.probe(control.unhealthy))

    @router.get("/readyz", response_model=Answer, summary="Whether popd takes work; 503 with the reasons where not")
    async def readyz() -> Response:
        return _verdict("ready", "unready", await calls.probe(control.unready))

    @router.get("/metrics", response_class=PlainTextResponse, summary="Metrics in Prometheus' text format")
    async def metrics() -> Response:
        return Response(await calls.run(parts.render_metrics), media_type=METRICS_TYPE)

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        nonce = secrets.token_urlsafe(16)
        text = (await calls.run(PAGE.read_text, "utf-8")).replace("{{nonce}}", nonce)
        headers = {
            "content-security-policy": POLICY.format(nonce=nonce),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }
        return HTMLResponse(text, headers=headers)

    return router


def _verdict(good: str, bad: str, reasons: list[str]) -> Response:
    if reasons:
        return fault(bad, "; ".join(reasons), 503, reasons=reasons)
    return answer({"status": good})
