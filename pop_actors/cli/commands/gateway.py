"""Commands about the gateway: how each provider does, its limits, the day's budgets, and whether it answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pop_actors.cli.daemon import Daemon
from pop_actors.cli.failure import USAGE, CommandFailed
from pop_actors.cli.options import options_of
from pop_actors.cli.output import print_facts, print_json, print_table, say
from pop_actors.cli.wording import duration

PROBE_SECONDS = 40.0  # popd gives a provider less
HEADS = (
    "provider", "model", "requests", "/min", "tokens/min", "in flight", "waiting", "circuit", "failed", "today $",
    "keys", "last error",
)  # fmt: skip
NONE = ("none", "null", "unlimited")


def register(app: typer.Typer) -> None:
    """Add them to popctl."""
    group = typer.Typer(
        help="Every provider and model: limits, what is used of them, circuit, money, keys, the last error.",
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show)
    group.command("set")(set_limits)
    group.command("probe")(probe)
    group.command("budgets")(budgets)
    app.add_typer(group, name="gateway")


def show(context: typer.Context) -> None:
    """Every provider and model: limits, what is used of them, circuit, money, keys, the last error."""
    if context.invoked_subcommand is not None:
        return
    options = options_of(context)
    with options.daemon() as daemon:
        entries = daemon.get("/api/gateway")
    if options.as_json:
        print_json(entries)
    else:
        print_table(HEADS, map(_row, entries))


def set_limits(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="A provider, or PROVIDER:MODEL.", metavar="PROVIDER")],
    changes: Annotated[list[str], typer.Argument(help="As requests_per_minute=60; none: no limit.", metavar="NAME=N…")],
) -> None:
    """Change limits, until popd starts again: requests_per_minute, tokens_per_minute, input_tokens_per_minute,
    output_tokens_per_minute, requests_per_day, max_concurrency; daily_budget_usd of a provider."""
    options = options_of(context)
    limits = dict(map(_change, changes))
    with options.daemon() as daemon:
        found = daemon.post("/api/service/gateway/set", {"provider": provider, "limits": limits})
    if options.as_json:
        print_json(found)
        return
    print_facts((name, "none" if value is None else value) for name, value in found.items())
    say("until popd starts again; to keep it, write it in pop.toml")


def probe(
    context: typer.Context,
    provider: Annotated[
        str | None, typer.Argument(help="Only this one.", show_default="all that are configured")
    ] = None,
) -> int:
    """One cheap call to a provider, or to each that is configured: whether it answers, how fast, at what cost."""
    options = options_of(context)
    with Daemon(options.socket_path, options.workspace.root, PROBE_SECONDS) as daemon:
        found = daemon.post("/api/service/gateway/probe", {"provider": provider})
    if options.as_json:
        print_json(found)
    else:
        print_table(("provider", "model", "answers", "ms", "$", "what it said"), map(_probe_row, found))
    return 0 if all(row["ok"] for row in found) else 1


def budgets(context: typer.Context) -> None:
    """The daily budgets and what is spent of them."""
    options = options_of(context)
    with options.daemon() as daemon:
        found = daemon.get("/api/gateway/budgets")
    if options.as_json:
        print_json(found)
    elif not found:
        say("no daily budget is set; see [gateway] daily_budget_usd in pop.toml")
    else:
        heads = ("budget", "name", "limit $", "spent $", "state", "begins anew", "jobs waiting")
        print_table(heads, ([*(row[key] for key in _BUDGET_KEYS), ", ".join(row.get("waiting", ()))] for row in found))


_BUDGET_KEYS = ("scope", "name", "limitUsd", "spentUsd", "state", "resetsAt")


def _change(text: str) -> tuple[str, float | None]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandFailed("usage", f"{text!r} is no change; write it as requests_per_minute=60", USAGE)
    if value.lower() in NONE:
        return name, None
    try:
        return name, int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        raise CommandFailed("usage", f"{text!r}: {value!r} is no number; none stands for no limit", USAGE) from None


def _row(entry: dict[str, Any]) -> list[Any]:
    limits, used = entry["limits"], entry["used"]
    error = entry["lastError"]
    return [
        entry["provider"],
        entry["model"] or "-",
        entry["requests"],
        _of(used["requestsPerMinute"], limits["requestsPerMinute"]),
        _of(used["tokensPerMinute"], limits["tokensPerMinute"]),
        _of(entry["inFlight"], limits["maxConcurrency"]),
        entry["waiting"],
        _circuit(entry.get("circuit")),
        entry["failed"],
        _of(f"{entry['spentTodayUsd']:.4f}", entry["dailyBudgetUsd"]),
        _keys(entry.get("keys") or []),
        "-" if error is None else f"{error['code']}: {error['message']}",
    ]


def _of(used: Any, limit: Any) -> str:
    return str(used) if limit is None else f"{used} of {limit:g}"


def _circuit(circuit: Any) -> str:
    return str(circuit.get("state", circuit)) if isinstance(circuit, dict) else str(circuit or "closed")


def _keys(keys: list[dict[str, Any]]) -> str:
    if not keys:
        return "-"
    down = [
        f"{key['name']} is tried again in {duration(key['triedAgainIn'])}: {key['reason']}"
        for key in keys
        if not key["standing"]
    ]
    standing = f"{len(keys) - len(down)} of {len(keys)} stand"
    return "; ".join([standing, *down])


def _probe_row(row: dict[str, Any]) -> list[Any]:
    said = "-" if row["ok"] else f"{row['code']}: {row['message']}"
    cost = "?" if row["costUsd"] is None else f"{row['costUsd']:.6f}"
    return [row["provider"], row["model"] or "-", "yes" if row["ok"] else "no", row["ms"], cost, said]
