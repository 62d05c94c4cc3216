"""`popctl`: asks the daemon over its Unix socket and drops seeds into the workspace.

It imports nothing of the daemon.
"""


def main() -> None:
    """The entry point; ends the process with the contract's exit code."""
    from pop_actors.cli.app import run

    raise SystemExit(run())
