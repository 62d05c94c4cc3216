"""Commands about the service: its tree, whether it claims seeds, and its end."""

from __future__ import annotations

from typing import Any

import typer

from pop_actors.cli.options import Options, options_of
from pop_actors.cli.output import print_facts, print_json, say
from pop_actors.cli.wording import duration, text_of


def register(app: typer.Typer) -> None:
    """Add them to popctl."""
    for command in (tree, pause, resume, shutdown):
        app.command()(command)


def tree(context: typer.Context) -> None:
    """The supervision tree: every actor, what it is and how it does."""
    options = options_of(context)
    with options.daemon() as daemon:
        root = daemon.get("/api/tree")
    if options.as_json:
        print_json(root)
        return
    for line in tree_lines(root):
        say(line)


def tree_lines(node: dict[str, Any], indent: str = "", branch: str = "", below: str = "") -> list[str]:
    """The tree, drawn."""
    facts = [text_of(node.get("kind")), text_of(node.get("state"))]
    facts += [f"{key} {node[key]}" for key in ("pid", "restarts", "mailbox") if node.get(key)]
    if node.get("uptime") is not None:
        facts.append(f"up {duration(float(node['uptime']))}")
    lines = [f"{indent}{branch}{node.get('name')}  ({', '.join(facts)})"]
    children = node.get("children") or []
    for number, child in enumerate(children, 1):
        last = number == len(children)
        lines += tree_lines(child, indent + below, "└─ " if last else "├─ ", "   " if last else "│  ")
    return lines


def show_service(options: Options) -> None:
    """`popctl status` without a job."""
    with options.daemon() as daemon:
        state = daemon.get("/api/state")
    if options.as_json:
        print_json(state)
    else:
        print_facts(state.items())


def pause(context: typer.Context) -> None:
    """Claim no more seeds; running jobs go on."""
    _order(context, "pause", "no more seeds are claimed; go on with: popctl resume")


def resume(context: typer.Context) -> None:
    """Claim seeds again."""
    _order(context, "resume", "seeds are claimed again")


def shutdown(context: typer.Context) -> None:
    """Stop popd; jobs under way go on after its next start."""
    _order(context, "shutdown", "popd is stopping")


def _order(context: typer.Context, order: str, done: str) -> None:
    options = options_of(context)
    with options.daemon() as daemon:
        data = daemon.post(f"/api/service/{order}")
    if options.as_json:
        print_json({"ok": True, "data": data})
    else:
        say(done)
