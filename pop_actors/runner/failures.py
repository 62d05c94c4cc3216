"""What a failed stage means: the contract's reason for every exception, whether another attempt could help. Pure."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from pop_actors.core.events import ErrorInfo, Reason
from pop_actors.errors import CallFailed
from pop_actors.runner.clockwork import StageTimeout
from pop_actors.runner.json_values import FlagChanged, InvalidResult
from pop_actors.runner.task_modules import LoadFailed

MESSAGE_CHARACTERS = 4000
STACK_CHARACTERS = 16000
LONGEST_BACKOFF_SECONDS = 30.0
BUDGET_CODES = frozenset({"budget", "budget_exceeded"})
HOPELESS_CODES = frozenset({"auth", "quota", "bad_request", "no_key", "unknown_provider"}) | BUDGET_CODES

# Another attempt would end the same way: the code is wrong, or the refinement rounds were the second chances.
FINAL_REASONS: frozenset[Reason] = frozenset({"load", "invalid_result", "flags", "quality", "budget"})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended. `final`: the task is not tried again, whatever `max_attempts` says."""

    stage: str
    reason: Reason
    error: ErrorInfo
    final: bool = False

    def document(self) -> dict[str, Any]:
        """Plain JSON; `failure_from` reads it back."""
        return {"reason": self.reason, "final": self.final, "error": self.error.model_dump()}


def failure_from(document: dict[str, Any], stage: str) -> Failure:
    """The failure a checkpoint line tells of."""
    return Failure(stage, document["reason"], ErrorInfo(**document["error"]), document["final"])


def failure_of(error: BaseException, stage: str) -> Failure:
    """The failure an exception out of a stage is."""
    reason = _reason(error)
    hopeless = isinstance(error, CallFailed) and error.code in HOPELESS_CODES
    return Failure(stage, reason, described(error), reason in FINAL_REASONS or hopeless)


def flagged(stage: str, reason: Reason, message: str) -> Failure:
    """The failure that flags or a deadline say, without an exception of the task."""
    names = {"validation": "ValidationFailed", "quality": "QualityNotReached", "timeout": "StageTimeout"}
    return Failure(stage, reason, ErrorInfo(name=names.get(reason, reason), message=message), reason in FINAL_REASONS)


def disk_failed(error: OSError, stage: str) -> Failure:
    """The failure of an attempt whose own files the disk refused. Final: another attempt would buy its calls anew."""
    message = (
        f"{error.filename or 'a file of the task'} could not be written: {error.strerror or error}; see to the disk"
    )
    return Failure(stage, "exception", ErrorInfo(name="DiskFailed", message=message, stack=_stack(error)), final=True)


def _reason(error: BaseException) -> Reason:
    match error:
        case StageTimeout():
            return "timeout"
        case InvalidResult():
            return "invalid_result"
        case FlagChanged():
            return "flags"
        case LoadFailed():
            return "load"
        case CallFailed():
            return "budget" if error.code in BUDGET_CODES else "provider"
        case _:
            return "exception"


def described(error: BaseException) -> ErrorInfo:
    """The error as a person reads it: whole characters, and bounded. For one that only wraps another, the other."""
    if isinstance(error, LoadFailed) and error.__cause__ is not None:
        cause = described(error.__cause__)
        return cause.model_copy(update={"message": f"{error}: {cause.message}"})
    message = _clean(_message(error), MESSAGE_CHARACTERS)
    return ErrorInfo(name=_clean(type(error).__name__, MESSAGE_CHARACTERS), message=message, stack=_stack(error))


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as fault:  # noqa: BLE001  (an exception class of the task may fail in its own __str__)
        return f"its message could not be read: {type(fault).__name__}"
    return f"{error.code}: {text}" if isinstance(error, CallFailed) else text


def _stack(error: BaseException) -> str:
    try:
        return _clean("".join(traceback.format_exception(error)), STACK_CHARACTERS)
    except Exception as fault:  # noqa: BLE001  (formatting runs code of the task: __str__, __repr__, __notes__)
        return f"the stack could not be read: {type(fault).__name__}"


def _clean(text: str, limit: int) -> str:
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… {len(text) - limit} characters left out …\n{text[-limit // 2 :]}"


def backoff(attempt: int, base: float, chance: float) -> float:
    """Seconds before the attempt after `attempt`: doubled each time, at most 30, then shortened by up to a half.

    `chance` is a random number of [0, 1).
    """
    return min(LONGEST_BACKOFF_SECONDS, base * 2.0 ** min(attempt - 1, 30)) * (1.0 - chance / 2)
