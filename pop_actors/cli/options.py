"""What every command knows: where the workspace and the socket are, and whether a program reads the output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from pop_actors.cli.daemon import Daemon
from pop_actors.storage.control_socket import find
from pop_actors.storage.layout import Workspace


@dataclass(frozen=True, slots=True)
class Options:
    """popctl's global options."""

    workspace: Workspace
    socket: Path | None
    as_json: bool

    def daemon(self) -> Daemon:
        """The daemon to ask."""
        return Daemon(self.socket_path, self.workspace.root)

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens."""
        return self.socket or find(self.workspace.state)


def options_of(context: typer.Context) -> Options:
    """The global options this command was called with."""
    found = context.find_object(Options)
    if found is None:
        raise RuntimeError("popctl's commands run below its callback")
    return found
