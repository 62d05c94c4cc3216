"""Logs prompts and replies where the settings ask for it, with what looks like a secret blacked out.

The gateway has none of these unless `[logging] prompts` is true: nobody's prompts are in a log by accident.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any

from pop_actors.core.chat import Message
from pop_actors.system.gateway.call import Call

REDACTED = "[redacted]"
LONGEST_TEXT = 20_000
SECRETS = (
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic, DeepSeek, Moonshot, Stripe
    r"\bAIza[A-Za-z0-9_-]{30,}",  # Google
    r"\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}",
    r"\bAKIA[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",  # a JSON web token
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}=*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
)

_log = logging.getLogger("pop_actors.prompts")


class PromptLog:
    """`patterns`: regular expressions beside those of well-known secrets; `secrets`: texts never to be shown."""

    def __init__(self, patterns: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        literal = [re.escape(secret) for secret in secrets if secret]
        self._patterns = [re.compile(pattern) for pattern in (*literal, *SECRETS, *patterns)]

    def sent(self, call: Call) -> None:
        """A request is about to go out."""
        messages = [{"role": message.role, "text": self.clean(_text(message))} for message in call.request.messages]
        _log.info("prompt", extra={**_whose(call), "messages": messages})

    def replied(self, call: Call, document: dict[str, Any]) -> None:
        """A reply was bought; `document` is a `ChatReply`'s."""
        _log.info("reply", extra={**_whose(call), "text": self.clean(document["content"])})

    def clean(self, text: str) -> str:
        """The text, cut where it is very long, without what the patterns match."""
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"

    def __repr__(self) -> str:
        return f"PromptLog({len(self._patterns)} patterns)"


def _text(message: Message) -> str:
    """What was said; of other parts than text, their kinds."""
    if not isinstance(message.content, list):
        return message.content or ""
    return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in message.content)


def _whose(call: Call) -> dict[str, Any]:
    task, stage, attempt = (call.identity.get(name) for name in ("task", "stage", "attempt"))
    whose = {"job_id": call.job_id, "task": task, "stage": stage, "attempt": attempt}
    return {**whose, "provider": call.provider, "model": call.model}
