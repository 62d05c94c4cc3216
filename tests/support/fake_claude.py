"""The Claude Code CLI as far as a gateway sees it: reads a prompt, prints a result, and misbehaves as it is told.

In settings: `command = [PYTHON, "tests/support/fake_claude.py", "--record", FILE]`. It appends one JSON line to the
file for each run, before it answers: arguments, prompt, environment, open descriptors, folder, group, the key its
helper gave it and the pid of whatever it started.

A model's name is directives joined by `+`:
    ok                  a reply (any word it does not know means the same)
    fail-STATUS         the API's error status; the CLI prints a result all the same, and exits 1
    says-WORDS          an error without a status, with these words (`_` for a space)
    words-WORDS         the text of the error or reply
    slow-2s             wait before answering
    lingers, brood      does not exit after its result; starts a process that holds its output open
    exit-3, signal-15   ends so, without a result; with `usage: …` on standard error
    garbage, silent     prints what is no result, or nothing
    flood               prints more than anybody takes
    cut, refusal        stops because of max_tokens, or because it will not answer
    nocost              does not know what it cost
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from pop_actors.providers.sample import sample

USAGE = {
    "input_tokens": 11, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 3,
    "output_tokens_details": {"thinking_tokens": 2},
}  # fmt: skip
NOTHING_USED = dict.fromkeys(USAGE, 0) | {"output_tokens_details": {}}


def main() -> int:
    _, _, record, *arguments = sys.argv
    options = dict(argument.partition("=")[::2] for argument in arguments if argument.startswith("--"))
    wanted = dict(directive.partition("-")[::2] for directive in options["--model"].split("+"))
    prompt = sys.stdin.read()
    brood = subprocess.Popen(["sleep", "600"]) if "brood" in wanted else None
    seen = {
        "arguments": arguments,
        "prompt": prompt,
        "environment": dict(os.environ),
        "descriptors": {name: _target(name) for name in os.listdir("/proc/self/fd")},
        "folder": os.getcwd(),
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "key": _key(options.get("--settings")),
        "system": _system(options.get("--system-prompt-file")),
        "brood": None if brood is None else brood.pid,
    }
    line = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(line, json.dumps(seen).encode() + b"\n")
    os.close(line)
    if "slow" in wanted:
        time.sleep(float(wanted["slow"].removesuffix("s")))
    return _answer(wanted, options)


def _answer(wanted: dict[str, str], options: dict[str, str]) -> int:
    if "exit" in wanted or "signal" in wanted:
        print("error: unknown option '--new'" if "old" in wanted else "usage: somehow else", file=sys.stderr)
        if "signal" in wanted:
            os.kill(os.getpid(), int(wanted["signal"]))
        return int(wanted["exit"])
    if "silent" in wanted:
        return 0
    if "garbage" in wanted:
        print('{"type": "other"}\nnot json {')
        return 0
    if "flood" in wanted:
        while True:
            sys.stdout.write("x" * 65536)
    result = _result(wanted, options)
    print("Warning: something is deprecated", file=sys.stderr)
    print(json.dumps(result), flush=True)
    if "lingers" in wanted:
        time.sleep(600)
    return 1 if result["is_error"] else 0


def _result(wanted: dict[str, str], options: dict[str, str]) -> dict[str, object]:
    failed = "fail" in wanted or "says" in wanted
    said = wanted.get("words") or wanted.get("says") or (f"API Error: {wanted['fail']} scripted" if failed else "hello")
    result = {
        "type": "result",
        "subtype": "success",
        "is_error": failed,
        "api_error_status": int(wanted["fail"]) if "fail" in wanted else None,
        "result": said.replace("_", " "),
        "stop_reason": "max_tokens" if "cut" in wanted else "refusal" if "refusal" in wanted else "end_turn",
        "total_cost_usd": None if "nocost" in wanted else 0 if failed else 0.0125,
        "usage": NOTHING_USED if failed else USAGE,
    }
    if "--json-schema" in options and not failed:
        document = _document(json.loads(options["--json-schema"]))
        result |= {"structured_output": document, "result": json.dumps(document), "stop_reason": "tool_use"}
    return result


def _document(schema: dict[str, object]) -> object:
    if "required" not in schema:
        return {"n": 4}
    return sample(schema, b"fake")


def _key(settings: str | None) -> str | None:
    """What the CLI does with `apiKeyHelper`: a shell runs it, and its output is the key."""
    helper = json.loads(settings)["apiKeyHelper"] if settings else None
    return subprocess.run(["sh", "-c", helper], capture_output=True, text=True).stdout if helper else None


def _system(path: str | None) -> str | None:
    return Path(path).read_text(encoding="utf-8") if path else None


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return "gone"  # the listing's own


if __name__ == "__main__":
    sys.exit(main())
