"""Where a call is posted to."""

from __future__ import annotations

import pytest

from pop_actors.providers.http_transport import address


@pytest.mark.parametrize(
    ("base_url", "path", "whole"),
    [
        ("https://api.openai.com/v1", "/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.z.ai/api/paas/v4", "/chat/completions", "https://api.z.ai/api/paas/v4/chat/completions"),
        ("https://api.anthropic.com", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.deepseek.com/anthropic", "/v1/messages", "https://api.deepseek.com/anthropic/v1/messages"),
        (
            "http://localhost:1/v1beta",
            "/v1/models/m:generateContent",
            "http://localhost:1/v1beta/models/m:generateContent",
        ),
    ],
)
def test_a_version_in_the_base_url_counts(base_url: str, path: str, whole: str) -> None:
    """Both forms of a base URL that people know lead to one address; the version is never there twice."""
    assert address(base_url, path) == whole
