"""The workspace on disk: layout, atomic files, append-only logs, claim, finish and recovery."""
