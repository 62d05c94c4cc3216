"""The one shape of every answer: `{"ok": true, "data"}` or `{"ok": false, "code", "message"}`.

Errors become statuses here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pop_actors.errors import AskTimeout, PopError, Refused, SeedRejected, Unavailable

STATUS_OF_CODE = {
    "bad_request": 400, "invalid_json": 400, "forbidden": 403, "read_only": 403, "not_found": 404, "no_such_route": 404,
    "method_not_allowed": 405, "duplicate_job": 409, "too_large": 413, "invalid_request": 422, "invalid_seed": 422,
    "unknown_pipeline": 422, "invalid_pipeline": 422, "unknown_provider": 422, "bad_limit": 422,
    "unavailable": 503, "timeout": 504, "disk_full": 507, "disk_error": 507,
}  # fmt: skip
CONFLICT = 409
_CODE_OF_STATUS = {400: "bad_request", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class Answer(BaseModel):
    """What was asked for."""

    ok: Literal[True] = True
    data: Any


class Fault(BaseModel):
    """Why it was not given."""

    ok: Literal[False] = False
    code: str
    message: str


def answer(data: Any, status: int = 200) -> Response:
    """A good answer. `data` is plain JSON."""
    return _json({"ok": True, "data": data}, status)


def fault(code: str, message: str, status: int | None = None, **more: Any) -> Response:
    """A bad answer; the status follows from the code unless it is given. An unlisted code is a conflict (409).

    `more` is added where it is not empty.
    """
    facts = {name: value for name, value in more.items() if value}
    document = {"ok": False, "code": code, "message": message, **facts}
    return _json(document, status or STATUS_OF_CODE.get(code, CONFLICT))


def _json(document: dict[str, Any], status: int) -> Response:
    content = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(content, status, headers, "application/json")


def fault_of(error: PopError) -> Response:
    """The answer an error of ours becomes."""
    match error:
        case Refused():
            return fault(error.code, error.message, details=error.details)
        case SeedRejected():
            return fault(error.reason, error.message)
        case Unavailable():
            return fault("unavailable", f"{error}; ask again")
        case AskTimeout():
            return fault("timeout", f"{error}; popd is busy, ask again")
    return fault("failed", str(error), 500)


def translate_errors(app: FastAPI) -> None:
    """Every error that leaves a route of `app` becomes an envelope."""

    async def ours(request: Request, error: Exception) -> Response:  # noqa: ARG001  (the handler's signature)
        return fault_of(error) if isinstance(error, PopError) else fault("failed", str(error), 500)

    async def http(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        if status == STATUS_OF_CODE["no_such_route"]:
            return fault("not_found", f"{request.url.path}: no such route; /openapi.json lists them")
        return fault(_CODE_OF_STATUS.get(status, "failed"), str(getattr(error, "detail", error)), status)

    async def invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001
        faults = error.errors() if isinstance(error, RequestValidationError) else []
        message = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
        if any(one["type"] == "json_invalid" for one in faults):
            return fault("invalid_json", message)
        return fault("invalid_request", message)

    async def unexpected(request: Request, error: Exception) -> Response:  # noqa: ARG001
        return fault("failed", f"{type(error).__name__} inside popd; its log has the details", 500)

    handlers: list[tuple[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = [
        (PopError, ours), (HTTPException, http), (RequestValidationError, invalid), (Exception, unexpected),
    ]  # fmt: skip
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)
