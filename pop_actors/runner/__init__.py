"""What runs inside a job's process: the task loop, the stages, and what a task's functions are handed."""

from pop_actors.runner.context import StageContext, StageResult

__all__ = ["StageContext", "StageResult"]
