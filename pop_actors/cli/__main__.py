"""`python -m pop_actors.cli` is popctl."""

from pop_actors.cli import main

main()
