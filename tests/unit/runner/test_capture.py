"""What a stage prints and logs goes to its own file, whoever does it, and never without bound."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.runner import capture as module
from pop_actors.runner.capture import Capture


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    return Capture(tmp_path / "files" / "logs")


@contextlib.contextmanager
def stage(capture: Capture, name: str, opened: list[str] | None = None, header: str = "again") -> Iterator[None]:
    with capture.stage("t", name, header, (opened if opened is not None else []).append):
        yield


def test_prints_and_logs_go_to_the_stages_file(capture: Capture) -> None:
    """stdout, stderr, bytes and logging, each once; the file is announced once."""
    opened: list[str] = []
    with capture.installed(), stage(capture, "inference", opened):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\n")
        logging.getLogger("task.t").info("logged %s", "here")
    text = (capture.logs / "t-inference.log").read_text()
    assert [line in text for line in ("to stdout\n", "to stderr\n", "bytes\n", "INFO task.t: logged here\n")] == [
        True
    ] * 4
    assert opened == ["t-inference.log"]


def test_a_silent_stage_leaves_no_file(capture: Capture) -> None:
    """Opening is left to the first byte."""
    opened: list[str] = []
    with capture.installed(), stage(capture, "inference", opened):
        sys.stdout.flush()
    assert not (capture.logs / "t-inference.log").exists()
    assert opened == []


def test_a_second_part_is_appended_under_a_header(capture: Capture) -> None:
    """Refinement rounds and further attempts stand in the same file."""
    for number in (1, 2):
        with capture.installed(), stage(capture, "parsing", header=f"round {number}"):
            print("part", number)
    assert (capture.logs / "t-parsing.log").read_text() == "part 1\n--- round 2 ---\npart 2\n"


def test_stages_side_by_side_do_not_mix(capture: Capture) -> None:
    """Two threads print at the same time, each into its own file."""
    gate = threading.Barrier(2)

    def work(name: str) -> None:
        with stage(capture, name):
            gate.wait(10)
            for _ in range(200):
                print(name)
            gate.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("critique", "refine")]
    with capture.installed():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("critique", "refine"):
        assert (capture.logs / f"t-{name}.log").read_text() == f"{name}\n" * 200


def test_a_thread_the_task_started_belongs_to_the_only_stage_at_work(capture: Capture) -> None:
    """Such a thread has no context of its own."""
    with capture.installed(), stage(capture, "parsing"):
        thread = threading.Thread(target=print, args=("from afar",))
        thread.start()
        thread.join()
    assert (capture.logs / "t-parsing.log").read_text() == "from afar\n"


def test_a_flood_is_cut_and_counted(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit everything, then one line that says how much was dropped."""
    monkeypatch.setattr(module, "LIMIT_BYTES", 10_000)
    with capture.installed(), stage(capture, "parsing"):
        for _ in range(2_000):
            print("x" * 99)
    content = (capture.logs / "t-parsing.log").read_bytes()
    assert content[:10_000] == (b"x" * 99 + b"\n") * 100
    assert content[10_000:].decode().strip() == "[truncated: 190000 bytes dropped]"


def test_a_line_without_end_is_not_held_in_memory(capture: Capture) -> None:
    """What is pending is bounded, newline or not."""
    with capture.installed(), stage(capture, "parsing"):
        for _ in range(100):
            print("y" * 1000, end="")
        assert (capture.logs / "t-parsing.log").stat().st_size > 100_000 - 2 * module.PENDING_BYTES
    assert (capture.logs / "t-parsing.log").stat().st_size == 100_000


def test_odd_characters_do_not_break_a_print(capture: Capture) -> None:
    """Half a surrogate pair is written as its escape."""
    with capture.installed(), stage(capture, "parsing"):
        print("\ud800")
        with pytest.raises(TypeError):
            sys.stdout.write(b"no")  # type: ignore[call-overload]
    assert (capture.logs / "t-parsing.log").read_text() == "\\ud800\n"


def test_what_c_code_writes_goes_to_the_process_log(capture: Capture) -> None:
    """File descriptors 1 and 2, outside of Python's streams."""
    with capture.installed():
        assert not capture.process_log_is_used()
        os.write(1, b"raw\n")
        os.write(2, b"cooked\n")
        assert capture.process_log_is_used()
    assert (capture.logs / "process.log").read_text() == "raw\ncooked\n"


def test_an_unused_process_log_is_not_left_behind(capture: Capture) -> None:
    """A job that says nothing has no log."""
    with capture.installed():
        capture.forget_unused_process_log()
    assert list(capture.logs.iterdir()) == []


def test_a_forked_copy_does_not_print_again_what_was_pending(capture: Capture) -> None:
    """And it finds no lock held by a thread that does not exist there."""
    with capture.installed(), stage(capture, "parsing"):
        print("before ", end="")
        child = os.fork()
        if child == 0:
            print("child")
            os._exit(0)
        os.waitpid(child, 0)
        print("parent")
    assert (capture.logs / "t-parsing.log").read_text() == "before child\nparent\n"


def test_everything_is_given_back_at_the_end(tmp_path: Path) -> None:
    """Streams, handlers and level are what they were."""
    before = sys.stdout, sys.stderr, logging.getLogger().handlers[:], logging.getLogger().level
    with Capture(tmp_path).installed():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr, logging.getLogger().handlers, logging.getLogger().level) == before
