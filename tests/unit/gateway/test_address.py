"""Where a call is posted to."""

from __future__ import annotations

import httpx2
import pytest

from pop_actors.providers.address import address, address_of, target


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


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://api.openai.com/v1", "/chat/completions"),
        ("https://API.OpenAI.com:443/v1", "/chat/completions"),
        ("http://localhost:8080", "/v1/messages"),
        ("http://[::1]:8080/v1", "/chat/completions"),
        ("https://[::1]", "/v1/messages"),
        ("https://b\u00fccher.example/v1", "/chat/completions"),
        ("https://host/my models/\u00e9", "/v1/messages"),
        ("https://host/a%20b", "/v1/models/gemini%2Fx:generateContent"),
        ("https://host/v1?api-version=1", "/chat/completions"),
    ],
)
def test_a_request_names_its_place_as_httpx2_does(base_url: str, path: str) -> None:
    """Host, port, Host header and the first line's target."""
    place, theirs = address_of(base_url), httpx2.URL(address(base_url, path))
    assert place.host.lower() == theirs.raw_host.decode()
    assert (place.scheme, place.authority.lower()) == (theirs.scheme, theirs.netloc.decode())
    assert place.port == (theirs.port or {"http": 80, "https": 443}[theirs.scheme])
    assert target(base_url, path).encode() == theirs.raw_path


@pytest.mark.parametrize(
    ("base_url", "credentials"),
    [
        ("https://host/v1", None),
        ("https://user:pass@host/v1", "Basic dXNlcjpwYXNz"),
        ("https://us%40er:p%3Ass@host/v1", "Basic dXNAZXI6cDpzcw=="),
        ("https://user@host/v1", "Basic dXNlcjo="),
    ],
)
def test_what_stands_before_the_at_goes_into_a_header(base_url: str, credentials: str | None) -> None:
    """And nowhere else."""
    place = address_of(base_url)
    assert place.credentials == credentials
    assert place.origin == "https://host"
    assert "dXN" not in repr(place)


@pytest.mark.parametrize(
    "base_url", ["", "host/v1", "ftp://host", "http://", "http://a..b/v1", f"http://{'x' * 64}.com"]
)
def test_what_is_no_address_is_said_before_anything_is_sent(base_url: str) -> None:
    """A name whose parts are empty or too long would trip the resolver."""
    with pytest.raises(ValueError, match=r"."):
        address_of(base_url)
