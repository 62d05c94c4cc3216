"""Routes about the gateway: its budgets, its limits set live, and a call to see whether a provider answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from pop_actors.api.envelope import Answer, answer
from pop_actors.api.parts import FAULTS, MUTATION_FAULTS, Parts

Name = Annotated[str, Field(min_length=1, max_length=256)]


class NewLimits(BaseModel):
    """Which limits of a provider, or of one of its models (`provider:model`), are to be others from now on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: Name
    limits: Annotated[dict[str, int | float | None], Field(min_length=1)]


class ProbeOrder(BaseModel):
    """Who is to be asked; nobody is named: every provider that is configured."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: Name | None = None


def gateway_routes(parts: Parts) -> APIRouter:
    """What reads, beside `/api/gateway` itself."""
    router = APIRouter(prefix="/api/gateway", tags=["gateway"], responses=FAULTS)

    @router.get("/budgets", response_model=Answer, summary="The daily budgets and what is spent of them")
    async def budgets() -> Response:
        return answer(await parts.calls.run(parts.control.budgets))

    return router


def gateway_action_routes(parts: Parts) -> APIRouter:
    """What changes something, or costs something."""
    router = APIRouter(prefix="/api/service/gateway", tags=["gateway"], responses=MUTATION_FAULTS)
    control, run = parts.control, parts.calls.run

    @router.post("/set", response_model=Answer, summary="Change limits of a provider, until the next start")
    async def set_limits(body: NewLimits) -> Response:
        return answer(await run(control.set_limits, body.provider, body.limits))

    @router.post("/probe", response_model=Answer, summary="One cheap call to a provider, or to each configured one")
    async def probe(body: ProbeOrder | None = None) -> Response:
        return answer(await run(control.probe, None if body is None else body.provider))

    return router
