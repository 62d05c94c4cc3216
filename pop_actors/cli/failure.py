"""How a command fails: a code for programs, a message that says what to type next, and the contract's exit code."""

from __future__ import annotations

REFUSED = 1
USAGE = 2
NO_DAEMON = 3
NOT_FOUND = 4


class CommandFailed(Exception):
    """A command could not do what it was asked."""

    def __init__(self, code: str, message: str, exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code


def no_daemon(socket: object, root: object) -> CommandFailed:
    """Nobody listens at the socket."""
    message = f"no daemon at {socket}; start one with: popd --root {root}"
    return CommandFailed("no_daemon", message, NO_DAEMON)


def not_found(message: str) -> CommandFailed:
    """There is no such job, task or file."""
    return CommandFailed("not_found", message, NOT_FOUND)
