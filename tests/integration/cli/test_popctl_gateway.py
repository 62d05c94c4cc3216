"""`popctl gateway` and its commands: what people see, what programs get, exit codes."""

from __future__ import annotations

import pytest

from support.memory_control import Service
from support.popctl import Popctl


def test_a_row_says_how_a_provider_does(service: Service, popctl: Popctl) -> None:
    """Limits with what is used of them, money, the last error."""
    heads, row = popctl("gateway").out.splitlines()
    for word in ("provider", "in flight", "circuit", "today $", "last error"):
        assert word in heads
    for word in ("offline", "echo", "3 of 60", "120", "0 of 4", "closed", "0.2500 of 1", "server: HTTP 500"):
        assert word in row


def test_limits_are_set_by_name(service: Service, popctl: Popctl) -> None:
    """Whole numbers, fractions and none; the answer is shown, and that it is not for good."""
    ran = popctl(
        "gateway", "set", "offline", "requests_per_minute=60", "daily_budget_usd=2.5", "tokens_per_minute=none"
    )
    assert ran.code == 0
    changes = {"requests_per_minute": 60, "daily_budget_usd": 2.5, "tokens_per_minute": None}
    assert service.control.orders == [("set_limits", "offline", changes)]
    assert "requestsPerMinute  60" in ran.out
    assert "pop.toml" in ran.out
    assert popctl("gateway", "set", "offline", "requests_per_minute=7", "--json").document == {"requestsPerMinute": 7}


@pytest.mark.parametrize("change", ["requests_per_minute", "requests_per_minute=many"])
def test_a_change_that_is_none_is_a_usage_error(service: Service, popctl: Popctl, change: str) -> None:
    """Nothing is sent; the message shows how to write it."""
    ran = popctl("gateway", "set", "offline", change)
    assert (ran.code, service.control.orders) == (2, [])
    assert change in ran.err


def test_a_provider_that_is_not_there_is_refused(service: Service, popctl: Popctl) -> None:
    """With the daemon's words, as what is not found."""
    ran = popctl("gateway", "set", "nobody", "requests_per_minute=1")
    assert ran.code == 4
    assert "nobody" in ran.err


def test_a_probe_exits_1_unless_all_answer(service: Service, popctl: Popctl) -> None:
    """For scripts; the table says who does not, and why."""
    ran = popctl("gateway", "probe")
    assert ran.code == 1
    assert "auth: HTTP 401" in ran.out
    assert popctl("gateway", "probe", "offline").code == 0
    ran = popctl("--json", "gateway", "probe", "openai")
    assert (ran.code, ran.document[0]["ok"]) == (1, False)
    assert [order[1] for order in service.control.orders] == [None, "offline", "openai"]


def test_budgets_are_listed(service: Service, popctl: Popctl) -> None:
    """Of what, how much, how it stands, and when it begins anew."""
    _, row = popctl("gateway", "budgets").out.splitlines()
    for word in ("global", "0.25", "ok", "2026-11-22T00:00:00.000Z"):
        assert word in row
    assert popctl("gateway", "budgets", "--json").document[0]["limitUsd"] == 2.0
