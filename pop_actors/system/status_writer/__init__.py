"""The status writer: the only writer of tasks-status.json and events.jsonl, and of a job directory's durable moves."""

from pop_actors.system.status_writer.actor import StatusWriter

__all__ = ["StatusWriter"]
