"""The gateway on its own, in a program that has no popd: sessions, replays, limits, a budget.

    python demo/gateway.py [FOLDER]

It runs on the built-in offline provider, without keys and without network. With OPENAI_API_KEY set, write
`default_provider = "openai"` under `[gateway]` in FOLDER/pop.toml, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from pop_actors.gateway import EmbeddedGateway

QUESTIONS = ("What is an actor?", "What is a supervisor?", "What is a journal for?")
VERDICT = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}, "reason": {"type": "string"}},
    "required": ["score", "reason"],
}


def say(*words: object) -> None:
    """A line, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    """Ask, ask again, and look at what it came to."""
    with EmbeddedGateway(folder) as gateway:
        llm = gateway.session("report-7", budget_usd=1.0)
        say("a call:", llm.chat("Say hello to the reader.").content)

        verdict = llm.chat("How good is this plan? Answer as JSON.", response_format=VERDICT)
        say("a structured reply:", verdict.parsed)

        async def ask_all() -> list[str]:
            return [reply.content for reply in await asyncio.gather(*map(llm.achat, QUESTIONS))]

        say("all at once:", len(asyncio.run(ask_all())), "replies")
        say("limits, live:", gateway.set_limits("offline", max_concurrency=2)["maxConcurrency"], "at once from here on")
        for row in gateway.view():
            say("so far:", f"{row['provider']}:{row['model']}", row["requests"], "requests,", row["costUsd"], "$")

    with EmbeddedGateway(folder) as gateway:  # as after a crash: what was paid for is not bought again
        again = gateway.session("report-7").chat("Say hello to the reader.")
        say("the first call, after a restart:", "replayed" if again.replayed else "bought again")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
