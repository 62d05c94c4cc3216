"""Commands that write the first files of a workspace, a pipeline, a task. They need no daemon and never overwrite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pop_actors.cli.failure import CommandFailed
from pop_actors.cli.options import options_of
from pop_actors.cli.output import print_json, say


def register(app: typer.Typer) -> None:
    """Add them to popctl."""
    app.command()(init)
    app.command("new-pipeline")(new_pipeline)
    app.command("new-task")(new_task)


def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Where; default: the root.")] = None,
) -> None:
    """Make a workspace with an example pipeline."""
    from pop_actors.storage.scaffold import init_workspace

    target = folder or options_of(context).workspace.root
    _tell(context, _made(init_workspace, target), f"start it with: popd --root {target}")


def new_pipeline(context: typer.Context, slug: Annotated[str, typer.Argument(metavar="SLUG")]) -> None:
    """Add a pipeline to the registry."""
    from pop_actors.storage.scaffold import new_pipeline as make

    root = options_of(context).workspace.root
    _tell(context, _made(make, root, slug), f"add a task with: popctl new-task {slug} NAME")


def new_task(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
) -> None:
    """Add a task to a pipeline."""
    from pop_actors.storage.scaffold import new_task as make

    root = options_of(context).workspace.root
    _tell(context, _made(make, root, slug, name), "write its stages there; an edit takes effect at the next run")


def _made(make: Any, *arguments: Any) -> list[Path]:
    try:
        return list(make(*arguments) or [])
    except OSError as error:
        raise CommandFailed("failed", f"{error.filename or ''}: {error.strerror or error}") from None


def _tell(context: typer.Context, made: list[Path], next_step: str) -> None:
    if options_of(context).as_json:
        print_json({"ok": True, "data": {"files": [str(path) for path in made]}})
        return
    for path in made:
        say(str(path))
    say(next_step if made else "everything is there already; nothing was written")
