"""popctl for tests: in this process, which is quick, or as one of its own, where it has to go on or be left."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pop_actors
from pop_actors.cli.app import run

REPOSITORY = Path(pop_actors.__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Popctl:
    """Runs popctl on one workspace."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._capture = capture
        self._patch = patch

    def __call__(self, *words: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Ran:
        """A command from beginning to end, in this process."""
        with self._patch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            for name, value in {"PO_ROOT": str(self.root), **(environment or {})}.items():
                patch.setenv(name, value)
            self._capture.readouterr()
            code = run(list(words))
            out, err = self._capture.readouterr()
        return Ran(code, out, err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pop_actors.cli", *words],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PO_ROOT": str(self.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
