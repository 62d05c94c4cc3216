"""Ways a file of a job gets damaged, and jobs to do it to: copies of one that was killed in its second task."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

FORMAT_1 = Path(__file__).resolve().parents[1] / "fixtures" / "workspace-format-1"
TEMPLATE = "middle-1"
GARBAGE = bytes((number * 73 + 41) % 256 for number in range(700))

JOB_FILES = (
    "tasks-status.json",
    "events.jsonl",
    "llm-calls.jsonl",
    "seed.json",
    "pipeline.json",
    "tasks/research/checkpoint.jsonl",
    "tasks/research/output.json",
    "tasks/writing/checkpoint.jsonl",
)


def _write(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def _in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + b"\x07 not what was written \x07" + content[middle + 24 :]


def _become_a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "torn": _write(lambda content: content[:-9]),
    "truncated": _write(lambda content: content[: len(content) // 2]),
    "empty": _write(lambda content: b""),
    "zero-filled": _write(lambda content: bytes(len(content))),
    "zeros-behind": _write(lambda content: content + bytes(4096)),
    "garbage": _write(lambda content: GARBAGE),
    "garbage-inside": _write(_in_the_middle),
    "garbage-behind": _write(lambda content: content + b"some other text\n"),
    "missing": Path.unlink,
    "a-folder": _become_a_folder,
}


def use_format_1(root: Path) -> None:
    """The pipelines and settings of that workspace, without its jobs."""
    shutil.copytree(FORMAT_1 / "pipeline-config", root / "pipeline-config", dirs_exist_ok=True)
    shutil.copy(FORMAT_1 / "pop.toml", root / "pop.toml")


def job_in_the_middle(current: Path, job_id: str) -> Path:
    """A job whose first task is done, with one paid call, and which was killed between two stages of its second."""
    job = current / job_id
    shutil.copytree(FORMAT_1 / "pipeline-data" / "current" / TEMPLATE, job)
    for path in job.rglob("*.json*"):
        content = path.read_bytes().replace(TEMPLATE.encode(), job_id.encode())
        path.write_bytes(content.replace(b"31-07-701Z-", f"31-07-701Z-{job_id}-".encode()))
    return job
