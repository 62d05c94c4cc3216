"""Tasks that a task adds to its own run: what of them is a fault, and the pipeline there is with them. Pure.

The run goes on as though the entries stood in its pipeline.json right behind the one they are to follow. So what waits
by default for the entry before it waits for the last of them; an entry that names what it waits for is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pop_actors.core.events import Patch
from pop_actors.core.pipeline import TaskDefaults, TaskEntry, name_of, parse_pipeline
from pop_actors.errors import PipelineInvalid

MOST_ADDED = 100
"""The tasks that may be added to a run, all in all: one that adds itself again and again comes to an end."""
MOST_BYTES = 262_144
"""What all entries added to a run may take as JSON: they stand in its log and its status."""

_PLACE = re.compile(r"/tasks/(\d+)")
_EDITED = "/patch: the run's own pipeline.json was edited, and has other tasks than the run; put it back"


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of a run. `document` is its pipeline.json as parsed, `patches` what was added, the oldest first; the
    rest as for `parse_pipeline`."""

    document: Any
    patches: tuple[Patch, ...] = ()
    registry_keys: Collection[str] | None = None
    defaults: TaskDefaults = field(default_factory=TaskDefaults)

    def tasks(self) -> tuple[TaskEntry, ...]:
        """In their order, every default settled. PipelineInvalid where they are no pipeline (any more)."""
        return self._parse(patched(self.document, self.patches))

    def with_patch(self, patch: Patch) -> Plan:
        return replace(self, patches=(*self.patches, patch))

    def faults_of(self, patch: Patch, states: Mapping[str, str]) -> list[str]:
        """What is wrong with one more patch; nothing where the run can go on with it. `states` are the run's tasks,
        `pending` those that have not begun."""
        names = [entry.name for entry in self.tasks()]
        if patch.task not in names:
            return [_EDITED]
        faults = [*self._too_much(patch), *_place_faults(patch, names), *self._entry_faults(patch, len(names))]
        if not faults and {*names} != states.keys():
            return [_EDITED]
        return faults or self._order_faults(patch, names, states)

    def _too_much(self, patch: Patch) -> list[str]:
        entries = [entry for each in (*self.patches, patch) for entry in each.add]
        size = len(json.dumps(entries))
        found = []
        if len(entries) > MOST_ADDED:
            found.append(
                f"/patch/add: makes {len(entries)} tasks added to this run, {MOST_ADDED} are allowed; a task that adds "
                "itself again and again would never end"
            )
        if size > MOST_BYTES:
            found.append(
                f"/patch/add: makes {size} bytes of added entries, {MOST_BYTES} are allowed; hand data over in an "
                "artifact or an output"
            )
        return found

    def _entry_faults(self, patch: Patch, count: int) -> list[str]:
        """Each entry by itself and beside the others; behind all others, so that where it is to go is no matter."""
        document = patched(self.document, self.patches)
        return self._faults({**document, "tasks": [*document["tasks"], *patch.add]}, count, len(patch.add))

    def _order_faults(self, patch: Patch, names: Sequence[str], states: Mapping[str, str]) -> list[str]:
        """Where it goes: no circle comes of it, and nothing that has begun would have had to wait."""
        made = self.with_patch(patch)
        faults = self._faults(patched(made.document, made.patches), names.index(patch.insert_after) + 1, len(patch.add))
        if faults:
            return faults
        before = {entry.name: entry.depends_on for entry in self.tasks()}
        return [
            f"/patch/insertAfter: {entry.name} has begun already, and would have to wait for {entry.depends_on[0]}"
            for entry in made.tasks()
            if entry.name in before and states[entry.name] != "pending" and entry.depends_on != before[entry.name]
        ]

    def _faults(self, document: Any, first: int, count: int) -> list[str]:
        """Those of a pipeline whose entries from `first` on, so many, are a patch's; each with its place there."""

        def in_control(found: re.Match[str]) -> str:
            index = int(found[1])
            if index < first:
                return found[0]
            return f"/patch/add/{index - first}" if index < first + count else f"/tasks/{index - count}"

        try:
            self._parse(document)
        except PipelineInvalid as invalid:
            return [_PLACE.sub(in_control, fault) for fault in invalid.faults]
        return []

    def _parse(self, document: Any) -> tuple[TaskEntry, ...]:
        return parse_pipeline(document, self.registry_keys, self.defaults).tasks


def patched(document: Any, patches: Sequence[Patch]) -> Any:
    """The pipeline.json there is with these. PipelineInvalid where an entry that one is to follow is not there."""
    if not patches:
        return document
    tasks = list(document.get("tasks", ())) if isinstance(document, dict) else []
    for patch in patches:
        names = [name_of(entry) for entry in tasks]
        if patch.insert_after not in names:
            raise PipelineInvalid(
                [f"/tasks: {patch.task} added tasks behind {patch.insert_after!r}, which is not there any more"]
            )
        place = names.index(patch.insert_after) + 1
        tasks[place:place] = patch.add
    return {**document, "tasks": tasks}


def read_patch(written: Any, writer: str, plan: Plan, states: Mapping[str, str], faults: list[str]) -> Patch | None:
    """The `patch` of a control.json that `writer` left; what is wrong with it is put to `faults`. None where it adds
    nothing, or has a fault."""
    shape = "/patch: must be {add, insertAfter}: a list of task entries, and the name of the task they are to follow"
    if not isinstance(written, dict) or not written.keys() <= {"add", "insertAfter"}:
        faults.append(shape)
        return None
    add, follows = written.get("add"), written.get("insertAfter", writer)
    if not isinstance(add, list) or not isinstance(follows, str):
        faults.append(shape)
        return None
    if not add:
        return None
    # Not held to its types yet: an entry of the wrong one is a fault among the others.
    patch = Patch.model_construct(task=writer, insert_after=follows, add=tuple(map(_as_object, add)))
    try:
        found = plan.faults_of(patch, states)
    except PipelineInvalid as invalid:
        found = [f"/patch: the run's own pipeline.json is no pipeline any more: {fault}" for fault in invalid.faults]
    faults += found
    return None if found else patch


def _as_object(entry: Any) -> Any:
    """An entry as an object with its `name` as such, where it has one: who reads the log need not look elsewhere."""
    name = name_of(entry)
    return entry if name is None else {**(entry if isinstance(entry, dict) else {}), "name": name}


def _place_faults(patch: Patch, names: Sequence[str]) -> list[str]:
    follows = patch.insert_after
    if follows not in names:
        return [f"/patch/insertAfter: {follows!r} is no task of this run; there are: {', '.join(names)}"]
    if names.index(follows) < names.index(patch.task):
        place = f"must be {patch.task} or a task behind it"
        return [f"/patch/insertAfter: {follows!r} comes before {patch.task}, which adds them; {place}"]
    return []
