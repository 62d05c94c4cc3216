"""The task registry as data: `TASKS` of tasks/index.py, read from its syntax and never executed, or index.json.

Says which file each task lives in, relative to the registry; whether that file is there is the catalogue's question.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from typing import Any

from pop_actors.core.strict_json import parse
from pop_actors.errors import InvalidJson, PipelineInvalid

_SHAPE = 'TASKS = {"name": "file.py", "other": "module:function"}'


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """Where a task's code is: candidate paths relative to the registry's folder; the function, where one is named."""

    files: tuple[str, ...]
    function: str | None = None


def parse_task_index(content: bytes, *, is_json: bool) -> dict[str, TaskTarget]:
    """Task name -> target. PipelineInvalid lists every fault of the registry."""
    entries, faults = _entries_of_json(content) if is_json else _entries_of_python(content)
    targets: dict[str, TaskTarget] = {}
    for name, text in entries:
        target = _target(text)
        if not isinstance(name, str) or not name:
            faults.append(f"{name!r}: a task's name must be a text that is not empty")
        elif name in targets:
            faults.append(f"{name}: stands twice in the registry")
        elif target is None:
            faults.append(f'{name}: must be "file.py" or "module:function", not {text!r}')
        else:
            targets[name] = target
    if faults:
        raise PipelineInvalid(faults)
    return targets


def with_task(content: bytes, name: str, file: str, *, is_json: bool) -> bytes:
    """The same registry with one more entry at its end. PipelineInvalid where it cannot be read, has the name, or is
    written in a way this cannot extend."""
    before = parse_task_index(content, is_json=is_json)
    if name in before:
        raise PipelineInvalid([f"{name}: is in the registry already"])
    if is_json:
        return (json.dumps({**parse(content), name: file}, ensure_ascii=False, indent=2) + "\n").encode()
    extended = _with_entry(content, f'"{name}": "{file}"'.encode())
    if parse_task_index(extended, is_json=False) != {**before, name: TaskTarget((file,))}:
        raise PipelineInvalid([f'TASKS cannot be extended; write "{name}": "{file}" into it by hand'])
    return extended


def _with_entry(content: bytes, entry: bytes) -> bytes:
    """The source with the entry behind the last value of TASKS; what follows that value (a comma, a comment) stays."""
    literal = next(value for statement in ast.parse(content).body if (value := _tasks_value(statement)))
    assert isinstance(literal, ast.Dict)
    if literal.values:
        place = _offset(content, literal.values[-1].end_lineno, literal.values[-1].end_col_offset)
        return content[:place] + b",\n    " + entry + content[place:]
    place = _offset(content, literal.lineno, literal.col_offset) + 1
    return content[:place] + b"\n    " + entry + b",\n" + content[place:]


def _offset(content: bytes, line: int | None, column: int | None) -> int:
    lines = content.splitlines(keepends=True)
    return sum(map(len, lines[: (line or 1) - 1])) + (column or 0)


def _entries_of_json(content: bytes) -> tuple[list[tuple[Any, Any]], list[str]]:
    try:
        document = parse(content)
    except InvalidJson as error:
        return [], [str(error)]
    if not isinstance(document, dict):
        return [], ['must be an object such as {"name": "file.py"}']
    return list(document.items()), []


def _entries_of_python(content: bytes) -> tuple[list[tuple[Any, Any]], list[str]]:
    try:
        module = ast.parse(content)
    except SyntaxError as error:
        return [], [f"line {error.lineno}: {error.msg}"]
    except (ValueError, RecursionError, MemoryError) as error:
        return [], [f"cannot be read as Python: {error}"]
    values = [value for statement in module.body if (value := _tasks_value(statement)) is not None]
    if len(values) != 1:
        return [], [f"must define TASKS once, as in {_SHAPE}"]
    if not isinstance(values[0], ast.Dict):
        return [], [f"line {values[0].lineno}: TASKS must be a literal, as in {_SHAPE}; it is read, not executed"]
    return _literal_entries(values[0])


def _tasks_value(statement: ast.stmt) -> ast.expr | None:
    """What the statement assigns to TASKS, where it does."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return None
    if any(isinstance(target, ast.Name) and target.id == "TASKS" for target in targets):
        return statement.value
    return None


def _literal_entries(value: ast.Dict) -> tuple[list[tuple[Any, Any]], list[str]]:
    entries, faults = [], []
    for key, item in zip(value.keys, value.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(item, ast.Constant):
            entries.append((key.value, item.value))
        else:
            faults.append(
                f"line {item.lineno}: TASKS must be a literal of texts, as in {_SHAPE}; it is read, not executed"
            )
    return entries, faults


def _target(text: Any) -> TaskTarget | None:
    if not isinstance(text, str) or not text or "\0" in text:
        return None
    if ":" not in text:
        return TaskTarget((text,))
    module, _, function = text.rpartition(":")
    if not function.isidentifier():
        return None
    if module.endswith(".py"):
        return TaskTarget((module,), function)
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    path = module.replace(".", "/")
    return TaskTarget((f"{path}.py", f"{path}/__init__.py"), function)
