"""The gateway behind its mailbox, as supervisors and jobs meet it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import SECONDS, chat_message, eventually

from pop_actors.actors.actor import Ping
from pop_actors.actors.registry import Registry
from pop_actors.config import GatewaySettings, ProviderSettings
from pop_actors.core.observations import CallQueued, Feed, Observation
from pop_actors.errors import CallFailed, Refused, Unavailable
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway import GatewayActor, GatewayView, JobGone, SetLimits
from support.provider_server import ProviderServer


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as made:
        yield made


@pytest.fixture
def gateway(tmp_path: Path, server: ProviderServer) -> Iterator[GatewayActor]:
    workspace = Workspace(tmp_path, tmp_path)
    workspace.job("job-1").path.mkdir(parents=True)
    settings = GatewaySettings(providers={"fake": ProviderSettings(kind="openai", base_url=server.base_url)})
    actor = GatewayActor.start_and_wait(
        "gateway",
        Registry(),
        settings=settings,
        keys={},
        workspace=workspace,
        feed=Feed(),
        on_paid=lambda _job, _event: None,
    )
    yield actor
    assert actor.stop_and_wait(SECONDS)


def test_a_chat_is_answered_later_and_the_mailbox_goes_on(gateway: GatewayActor, server: ProviderServer) -> None:
    """While the provider thinks, other messages are answered."""
    slow = gateway.request(chat_message("slow-300ms"))
    server.wait_for_calls(1)
    assert gateway.request(chat_message("ok", ordinal=2)).result(SECONDS)["content"].startswith("reply")
    assert not slow.done()
    assert slow.result(SECONDS)["content"].startswith("reply")


def test_a_failure_is_a_refusal_and_the_actor_lives(gateway: GatewayActor) -> None:
    """CallFailed crosses as it is, with its code."""
    with pytest.raises(CallFailed) as failed:
        gateway.request(chat_message("fail-400")).result(SECONDS)
    assert failed.value.code == "bad_request"
    assert gateway.request(GatewayView()).result(SECONDS)


def test_limits_are_set_and_seen(gateway: GatewayActor) -> None:
    """SetLimits answers with all limits, the view shows them, a wrong one is refused."""
    assert gateway.request(SetLimits("fake", {"max_concurrency": 2})).result(SECONDS)["maxConcurrency"] == 2
    rows = {row["provider"]: row for row in gateway.request(GatewayView()).result(SECONDS)}
    assert rows["fake"]["limits"]["maxConcurrency"] == 2
    for wrong in (SetLimits("fake", {"nonsense": 1}), SetLimits("nobody", {"max_concurrency": 1})):
        with pytest.raises(Refused):
            gateway.request(wrong).result(SECONDS)


def test_a_stop_answers_everybody_who_waits(gateway: GatewayActor, server: ProviderServer) -> None:
    """An unanswered chat hears Unavailable, and so is asked again after a restart."""
    asked = gateway.request(chat_message("slow-30s"))
    server.wait_for_calls(1)
    gateway.tell(JobGone("job-of-nobody"))
    assert gateway.stop_and_wait(SECONDS)
    with pytest.raises(Unavailable):
        asked.result(SECONDS)


def test_a_job_that_comes_back_at_once_is_not_taken_for_the_one_that_went(
    tmp_path: Path, server: ProviderServer
) -> None:
    """Its process ended, and the next one asks the same: in that order, however busy the gateway is meanwhile."""
    workspace = Workspace(tmp_path, tmp_path)
    for job in ("job-1", "job-2"):
        workspace.job(job).path.mkdir(parents=True)
    fake = ProviderSettings(kind="openai", base_url=server.base_url, max_concurrency=1)
    queued: list[str] = []
    go_on = threading.Event()

    def hear(seen: Observation) -> None:
        if isinstance(seen, CallQueued):
            queued.append(seen.provider)
            assert seen.provider == "fake" or go_on.wait(SECONDS)

    gateway = GatewayActor.start_and_wait(
        "gateway",
        Registry(),
        settings=GatewaySettings(providers={"fake": fake, "busy": fake.model_copy()}),
        keys={},
        workspace=workspace,
        feed=Feed(hear),
        on_paid=lambda _job, _event: None,
    )
    first = gateway.request(chat_message("slow-300ms"))
    server.wait_for_calls(1)
    before = gateway.request(chat_message("ok", ordinal=2))
    eventually(lambda: len(queued) == 2)
    others = [gateway.request(chat_message("ok", "job-2", provider="busy"))]
    eventually(lambda: queued[2:] == ["busy"])
    others += [gateway.request(chat_message("ok", "job-2", provider="busy", ordinal=2))]
    gateway.tell(JobGone("job-1"))
    after = gateway.request(chat_message("ok", ordinal=2))
    gateway.request(Ping()).result(SECONDS)
    go_on.set()
    with pytest.raises(CallFailed, match="process ended"):
        before.result(SECONDS)
    assert all(asked.result(SECONDS)["content"] for asked in (first, after, *others))
    assert gateway.stop_and_wait(SECONDS)


def test_an_offline_gateway_carries_no_http_and_no_prices(tmp_path: Path) -> None:
    """A daemon that never asks a network provider never loads what that takes."""
    script = """
import asyncio, sys
from pathlib import Path
from pop_actors.config import GatewaySettings
from pop_actors.core.messages import Chat
from pop_actors.core.observations import CallQueued, Feed, Observation
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway import Gateway

async def main():
    workspace = Workspace(Path(sys.argv[1]), Path(sys.argv[1]))
    workspace.job("j").path.mkdir(parents=True)
    gateway = Gateway(GatewaySettings(), {}, workspace, Feed(), lambda job, event: None)
    request = {"messages": [{"role": "user", "content": "hello"}]}
    await gateway.chat(Chat("j", "r", 1, "t", 1, "inference", 0, 1, request, 5.0))
    await gateway.close()

asyncio.run(main())
print([name for name in ("httpx2", "genai_prices") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
