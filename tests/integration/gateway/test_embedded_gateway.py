"""The gateway in a program of one's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pop_actors.core.observations import CallEnded, Observation
from pop_actors.errors import RootTaken
from pop_actors.gateway import CallFailed, EmbeddedGateway, GatewaySettings, PriceSettings, ProviderSettings
from support.provider_server import ProviderServer

DEMO = Path(__file__).parents[3] / "demo" / "gateway.py"


def settings_for(server: ProviderServer) -> GatewaySettings:
    table = ProviderSettings(kind="openai", base_url=server.base_url)
    prices = {"fake:*": PriceSettings(input=0, output=10_000)}
    return GatewaySettings(default_provider="fake", default_model="ok", providers={"fake": table}, prices=prices)


def test_the_demo_runs() -> None:
    """As a newcomer would run it: without keys, without network; the second life replays."""
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the first call, after a restart: replayed"


def test_a_program_that_is_run_again_buys_nothing_again(tmp_path: Path) -> None:
    """The same calls of a session are replayed in order, new ones are bought; another session buys its own."""
    with ProviderServer() as server:
        for words in (["a", "a", "b"], ["a", "a", "b", "c"]):
            with EmbeddedGateway(tmp_path, settings_for(server), {"fake": "sk-1"}) as gateway:
                llm = gateway.session("report")
                replayed = [llm.chat(word).replayed for word in words]
        assert replayed == [True, True, True, False]
        assert len(server.calls) == 4
        with EmbeddedGateway(tmp_path, settings_for(server), {"fake": "sk-1"}) as gateway:
            assert not gateway.session("other").chat("a").replayed


def test_threads_and_tasks_share_it(tmp_path: Path) -> None:
    """Calls from many threads and from an event loop; everyone gets a reply of their own."""
    seen: list[Observation] = []
    with ProviderServer() as server, EmbeddedGateway(tmp_path, settings_for(server), {}, seen.append) as gateway:
        llm = gateway.session("busy")
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: llm.chat(f"thread {n}").content, range(16)))

        async def ask_all() -> list[str]:
            return [reply.content for reply in await asyncio.gather(*(llm.achat(f"task {n}") for n in range(16)))]

        replies += asyncio.run(ask_all())
        assert len(set(replies)) == 32
        assert sum(isinstance(one, CallEnded) for one in seen) == 32
        assert gateway.view()[0]["requests"] + gateway.view()[1]["requests"] == 32


def test_a_session_has_a_budget_and_a_fallback(tmp_path: Path) -> None:
    """As a seed and a pipeline have."""
    with ProviderServer() as server, EmbeddedGateway(tmp_path, settings_for(server), {}) as gateway:
        llm = gateway.session("poor", budget_usd=1.0, fallback=("fake:usage-0-100",))
        reply = llm.chat("hello", model="fail-400")
        assert (reply.model, reply.cost_usd) == ("usage-0-100", 1.0)
        with pytest.raises(CallFailed) as failed:
            llm.chat("hello again", model="usage-0-100")
        assert failed.value.code == "budget"


def test_a_folder_belongs_to_one_gateway(tmp_path: Path) -> None:
    """Two that journal in the same place would buy twice; the second is refused, and may come after the first."""
    with EmbeddedGateway(tmp_path, GatewaySettings()), pytest.raises(RootTaken):
        EmbeddedGateway(tmp_path, GatewaySettings())
    EmbeddedGateway(tmp_path, GatewaySettings()).close()


def test_settings_are_read_where_none_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pop.toml of the folder and the environment, as popd reads them."""
    monkeypatch.setenv("FAKE_KEY", "sk-from-the-environment")
    with ProviderServer() as server:
        (tmp_path / "pop.toml").write_text(
            '[gateway]\ndefault_provider = "fake"\ndefault_model = "ok"\n[gateway.providers.fake]\nkind = "openai"\n'
            f'base_url = "{server.base_url}"\napi_key_env = "FAKE_KEY"\n'
        )
        with EmbeddedGateway(tmp_path) as gateway:
            gateway.session("s").chat("hello")
        assert server.calls[0].headers["authorization"] == "Bearer sk-from-the-environment"


def test_keys_are_read_where_only_settings_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the places the settings name; the next takes over from one that is used up."""
    monkeypatch.setenv("FAKE_KEY", "sk-used-up-1234")
    (tmp_path / "second.key").write_text("sk-good-1234\n")
    with ProviderServer() as server:
        server.keys["sk-used-up-1234"] = "quota"
        places = {"api_key_env": "FAKE_KEY", "api_key_file": "second.key"}
        table = ProviderSettings(kind="openai", base_url=server.base_url, **places)
        settings = GatewaySettings(default_provider="fake", default_model="ok", providers={"fake": table})
        with EmbeddedGateway(tmp_path, settings) as gateway:
            gateway.session("s").chat("hello")
        assert [call.headers["authorization"][-9:] for call in server.calls] == ["d-up-1234", "good-1234"]


def test_settings_are_read_where_only_keys_are_given(tmp_path: Path) -> None:
    """A program that keeps its keys elsewhere has its pop.toml all the same, and may have several to a provider."""
    with ProviderServer() as server:
        server.keys["sk-used-up-1234"] = "quota"
        (tmp_path / "pop.toml").write_text(
            '[gateway]\ndefault_provider = "fake"\ndefault_model = "ok"\n[gateway.providers.fake]\nkind = "openai"\n'
            f'base_url = "{server.base_url}"\n'
        )
        with EmbeddedGateway(tmp_path, None, {"fake": ["sk-used-up-1234", "sk-good-1234"]}) as gateway:
            gateway.session("s").chat("hello")
            assert [key["name"] for key in gateway.view()[0]["keys"]] == ["given 1", "given 2"]
        assert [call.headers["authorization"][-9:] for call in server.calls] == ["d-up-1234", "good-1234"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a"])
def test_a_session_needs_a_name_that_is_a_folder(tmp_path: Path, name: str) -> None:
    """Nothing outside the folder is written."""
    with EmbeddedGateway(tmp_path, GatewaySettings()) as gateway, pytest.raises(ValueError, match="no name"):
        gateway.session(name)
