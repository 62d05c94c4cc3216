"""`python -m pop_actors` is `popd`. Kept thin: every process of the pool imports this module, too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the daemon; exits with the contract's code."""
    from pop_actors.service import run  # here, so that processes of the pool do not load the daemon

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
