"""popctl's command line: the global options, the commands, and the one place where failures become exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from pop_actors import __version__
from pop_actors.cli.commands import doctor, gateway, jobs, live, scaffold, service, submit
from pop_actors.cli.failure import REFUSED, USAGE, CommandFailed
from pop_actors.cli.options import Options
from pop_actors.cli.output import print_failure, print_json
from pop_actors.errors import PopError
from pop_actors.storage.layout import Workspace

DATA_FOLDER = "pipeline-data"
INTERRUPTED = 130


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="popctl",
        help="Submit jobs to popd, see how they do, and steer the service.",
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_global_options)
    for module in (submit, jobs, live, gateway, service, doctor, scaffold):
        module.register(app)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"popctl {__version__}")
        raise typer.Exit


def _global_options(
    context: typer.Context,
    root: Annotated[
        Path, typer.Option(envvar="PO_ROOT", help="The workspace.", show_default="current folder")
    ] = Path(),
    socket: Annotated[Path | None, typer.Option(help="The daemon's socket, where it is not the workspace's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    data_dir: Annotated[Path | None, typer.Option(envvar="PO_DATA_DIR", hidden=True)] = None,
    version: Annotated[  # noqa: ARG001  (its callback does it all)
        bool, typer.Option("--version", help="The version, and nothing else.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    root = root.absolute()
    context.obj = Options(Workspace(root, root / (data_dir or DATA_FOLDER)), socket, as_json)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    as_json, words = with_json_first(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = build()(args=words, prog_name="popctl", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _usage(error, as_json=as_json)
    except CommandFailed as failed:
        print_failure(failed, as_json=as_json)
        return failed.exit_code
    except PopError as error:
        print_failure(CommandFailed("failed", str(error)), as_json=as_json)
        return REFUSED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return outcome if isinstance(outcome, int) else 0


def with_json_first(words: list[str]) -> tuple[bool, list[str]]:
    """Whether `--json` is among the words, and the words with it in front: it may stand anywhere before `--`."""
    end = words.index("--") if "--" in words else len(words)
    before = [word for word in words[:end] if word != "--json"]
    as_json = len(before) < end
    return as_json, [*(["--json"] if as_json else []), *before, *words[end:]]


def _usage(error: TyperException, *, as_json: bool) -> int:
    if as_json:
        print_json({"ok": False, "code": "usage", "message": error.format_message()})
    show = getattr(error, "show", None)
    if show is not None:
        show(file=sys.stderr)
    return int(error.exit_code) or USAGE
