"""What a stage's calls say of who pays and who is asked next, and how they wait for a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.messages import Chat
from pop_actors.errors import BUDGET_PAUSED, CallFailed, Refused
from pop_actors.runner.clockwork import Clockwork, Deadline
from pop_actors.runner.llm import Llm
from pop_actors.runner.llm_call import Caller, Purse
from pop_actors.runner.llm_choice import Choice, choice_of_config, override_of, settle
from pop_actors.runner.room import Leaving, Room

REPLY = {
    "content": "hello", "usage": {"inputTokens": 3, "outputTokens": 5}, "costUsd": 0.25, "provider": "openai",
    "model": "m", "finishReason": "stop",
}  # fmt: skip
NO_OVERRIDE = LlmOverride()
PIPELINE = ("gemini:p",)
TASK = ("openai:t",)


class Gateway:
    """Answers every chat with what `answer` returns or raises."""

    address = "gateway"

    def __init__(self, answer: Callable[[Chat], Any]) -> None:
        self.chats: list[Chat] = []
        self._answer = answer

    def request(self, message: object) -> Future[Any]:
        assert isinstance(message, Chat)
        self.chats.append(message)
        future: Future[Any] = Future()
        try:
            future.set_result(self._answer(message))
        except Refused as refused:
            future.set_exception(refused)
        return future

    def tell(self, message: object) -> None:
        raise NotImplementedError

    def ask(self, message: object, timeout: float) -> Any:
        raise NotImplementedError


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    yield made
    made.stop()


def llm_for(gateway: Gateway, clockwork: Clockwork, room: Room | None = None, **more: Any) -> Llm:
    settings: dict[str, Any] = {"levels": (), "override": NO_OVERRIDE, "request_timeout": 60.0, "paid": [], **more}
    deadline = Deadline(clockwork, 60)
    room = room or Room(threading.Event())
    return Llm(Caller(gateway, "j", "r", 1, "t", 1, "inference", 0, deadline=deadline, room=room, **settings))


def test_a_call_says_who_pays_and_who_is_next(clockwork: Clockwork) -> None:
    """Pipeline, priority and budget of the seed, and the chain; none of it in the request, which is what is asked."""
    gateway = Gateway(lambda _: REPLY)
    levels = (Choice(None, "m", fallback=TASK), Choice("openai", fallback=PIPELINE))
    llm_for(gateway, clockwork, levels=levels, purse=Purse("news", 3, 2.5)).chat("hi")
    (chat,) = gateway.chats
    assert (chat.pipeline, chat.priority, chat.budget_usd, chat.fallback) == ("news", 3, 2.5, TASK)
    assert "fallback" not in chat.request


@pytest.mark.parametrize(
    ("levels", "override", "expected"),
    [
        ([Choice(), Choice()], NO_OVERRIDE, None),
        ([Choice(), Choice(fallback=PIPELINE)], NO_OVERRIDE, PIPELINE),
        ([Choice(fallback=TASK), Choice(fallback=PIPELINE)], NO_OVERRIDE, TASK),
        ([Choice(fallback=()), Choice(fallback=PIPELINE)], NO_OVERRIDE, ()),
        ([Choice(fallback=TASK)], LlmOverride(provider="offline"), None),
        ([Choice(fallback=TASK)], LlmOverride(model="m", fallback=PIPELINE), PIPELINE),
        ([Choice(fallback=TASK)], LlmOverride(fallback=PIPELINE), PIPELINE),
    ],
)
def test_the_chain_comes_from_the_strongest_level_that_has_one(
    levels: list[Choice], override: LlmOverride, expected: tuple[str, ...] | None
) -> None:
    """An empty chain is one; who is overridden is not asked by the back door."""
    assert settle(levels, override).fallback == expected


def test_a_tasks_override_stands_in_for_the_pipelines() -> None:
    """As a whole; what is no override of the right form is none."""
    pipeline = LlmOverride(provider="openai", model="big")
    assert override_of({}, pipeline) == pipeline
    assert override_of({"llmOverride": "offline"}, pipeline) == pipeline
    own = override_of({"llmOverride": {"provider": "offline", "fallback": ["openai:m", 7]}}, pipeline)
    assert own == LlmOverride(provider="offline", fallback=("openai:m",))


def test_a_config_may_name_a_chain() -> None:
    """Of its own, or in its llm table."""
    assert choice_of_config({"fallback": ["a:b"]}).fallback == ("a:b",)
    assert choice_of_config({"llm": {"fallback": ["a:b", "c"]}}).fallback == ("a:b", "c")
    assert choice_of_config({"fallback": "a:b"}).fallback is None


def test_a_spent_budget_is_a_failed_call(clockwork: Clockwork) -> None:
    """With its code, so that the task ends for that reason."""

    def refuse(_: Chat) -> Any:
        raise CallFailed("budget", "the job's budget is spent")

    with pytest.raises(CallFailed) as failed:
        llm_for(Gateway(refuse), clockwork).chat("hi")
    assert failed.value.code == "budget"


def test_a_paused_budget_is_waited_for(clockwork: Clockwork) -> None:
    """The same call is sent again until it goes; the wait is told with its reason, and takes nothing of the time."""
    told: list[str] = []

    def answer(_: Chat) -> Any:
        if len(gateway.chats) < 4:
            raise CallFailed(BUDGET_PAUSED, "until midnight")
        return REPLY

    gateway = Gateway(answer)
    room = Room(threading.Event(), lambda: told.append(room.reason), lambda _: told.append("released"))
    assert llm_for(gateway, clockwork, room).chat("hi").content == "hello"
    assert told == ["budget", "released"]
    assert len({(chat.ordinal, str(chat.request)) for chat in gateway.chats}) == 1


def test_a_stopping_service_is_not_kept_by_a_call_that_waits_for_tomorrow(clockwork: Clockwork) -> None:
    """The stage is left, to be done again after the next start."""
    leaving = threading.Event()

    def refuse(_: Chat) -> Any:
        leaving.set()
        raise CallFailed(BUDGET_PAUSED, "until midnight")

    with pytest.raises(Leaving, match="no budget today"):
        llm_for(Gateway(refuse), clockwork, Room(leaving)).chat("hi")
