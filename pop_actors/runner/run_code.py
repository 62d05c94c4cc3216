"""The code of a run as its process finds it, held against what the run's log says it was. Asked by the job's actor."""

from __future__ import annotations

import time

from pop_actors.core import events as e
from pop_actors.core.code_change import changed_files, changed_tasks
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import JobSpec
from pop_actors.runner.history import History
from pop_actors.runner.task_modules import split_target
from pop_actors.storage.layout import JobDirectory
from pop_actors.storage.task_code import CodeReader

NAMED_FILES = 5


def code_of(spec: JobSpec, directory: JobDirectory, reader: CodeReader) -> e.Code:
    """The code now; a first start takes what the daemon found a moment ago."""
    if spec.code is not None and not spec.resumed:
        return spec.code
    targets = {entry.name: spec.task_modules[entry.task] for entry in spec.entries if entry.task in spec.task_modules}
    modules = {task: str(split_target(target)[0]) for task, target in targets.items()}
    return reader.read(modules, directory.pipeline)


def code_with_added(before: e.Code, now: e.Code) -> e.Code:
    """The code of a run to which tasks were added: what was known stays, so that an edit of it is still to be told."""
    return e.Code(files={**now.files, **before.files}, modules={**now.modules, **before.modules})


def change_of(history: History, now: e.Code, spec: JobSpec, reader: CodeReader) -> e.CodeChanged | None:
    """What is not as it was when the run was last at work; None where nothing is, or where that is not known."""
    before = history.code
    if before is None or before == now:
        return None
    open_ = [entry.name for entry in spec.entries if history.of(entry.name).ended is None]
    return e.CodeChanged(
        at=timestamp(time.time()),
        tasks=changed_tasks(before, now, open_, reader.reach),
        files=changed_files(before, now),
        action=spec.on_code_change if open_ else "continue",
        code=now,
    )


def question_about(change: e.CodeChanged) -> str:
    """What a person is asked who is to let the run go on with the changed code."""
    named = ", ".join(change.files[:NAMED_FILES])
    more = len(change.files) - NAMED_FILES
    files = f"{named} and {more} more" if more > 0 else named
    used = (
        f"tasks still to run that use it: {', '.join(change.tasks)}" if change.tasks else "no task still to run uses it"
    )
    return f"the code changed while the run was under way ({files}); {used}; approve to go on with the new code"
