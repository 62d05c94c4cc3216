"""What is known of vendors beside their names: whose prices hold at an address."""

from __future__ import annotations

import pytest

from pop_actors.providers.catalogue import COMPATIBLE, VENDORS, prices_at


@pytest.mark.parametrize(
    ("name", "base_url", "prices"),
    [
        ("zhipu", None, "zai"),
        ("zhipu", "https://open.bigmodel.cn/api/paas/v4", "zhipuai"),
        ("zhipu", "http://127.0.0.1:8000/v4", "zai"),
        ("mine", "https://api.openai.com/v1", "openai"),
        ("mine", "https://API.DeepSeek.com", "deepseek"),
        ("mine", "https://api.openai.com.example/v1", None),
        ("mine", "http://[broken", None),
    ],
)
def test_prices_are_those_of_who_is_asked(name: str, base_url: str | None, prices: str | None) -> None:
    """By the address where it is a vendor's own, whatever the table's name; Zhipu has others in China than abroad."""
    vendor = VENDORS.get(name, COMPATIBLE["openai"])
    assert prices_at(base_url, vendor) == prices
