"""A repair is asked for over the API: of one job, or of all that were set aside."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from support.memory_control import Service


@pytest.mark.parametrize(
    ("body", "status", "orders"),
    [
        (None, 200, [("repair", None)]),
        ({}, 200, [("repair", None)]),
        ({"job": None}, 200, [("repair", None)]),
        ({"job": "job-1"}, 200, [("repair", "job-1")]),
        ({"job": "../etc"}, 422, []),
        ({"jobs": "job-1"}, 422, []),
    ],
)
def test_a_repair_is_of_one_job_or_of_all(
    service: Service, unix: httpx2.Client, body: Any, status: int, orders: list[Any]
) -> None:
    """A name that no job can have, or a key that is none, is refused."""
    reply = unix.post("/api/service/repair", json=body) if body is not None else unix.post("/api/service/repair")
    assert (reply.status_code, service.control.orders) == (status, orders)


def test_the_tcp_port_repairs_nothing(service: Service, tcp: httpx2.Client) -> None:
    """It only reads, unless the settings say otherwise."""
    assert tcp.post("/api/service/repair", content=b"{}").status_code == 403
    assert service.control.orders == []
