"""Puts the routes together into the one app that both addresses serve."""

from __future__ import annotations

from fastapi import FastAPI

from pop_actors import __version__
from pop_actors.api.envelope import translate_errors
from pop_actors.api.parts import Parts
from pop_actors.api.routes_gateway import gateway_action_routes, gateway_routes
from pop_actors.api.routes_jobs import job_action_routes, job_routes
from pop_actors.api.routes_service import probe_routes, service_action_routes, service_routes


def build_app(parts: Parts) -> FastAPI:
    """The app, without the checks of `gate.py`."""
    app = FastAPI(
        title="pop_actors",
        version=__version__,
        description="Every answer is an envelope: `{ok: true, data}` or `{ok: false, code, message}`.",
        docs_url=None,
        redoc_url=None,
    )
    for routes in (
        job_routes, job_action_routes, gateway_routes, gateway_action_routes, service_routes, service_action_routes,
        probe_routes,
    ):  # fmt: skip
        app.include_router(routes(parts))
    translate_errors(app)
    return app
