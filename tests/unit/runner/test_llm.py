"""Calls of a stage: who is asked, under which number, and what a reply must be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.messages import Chat, Withdraw
from pop_actors.errors import CallFailed, Refused, Unavailable
from pop_actors.runner.clockwork import Clockwork, Deadline, StageTimeout
from pop_actors.runner.llm import Llm
from pop_actors.runner.llm_call import Caller, Ordinals
from pop_actors.runner.llm_choice import Choice, choice_of_config, settle
from pop_actors.runner.room import Room

NO_OVERRIDE = LlmOverride()


def reply(content: str = "hello") -> dict[str, Any]:
    return {
        "content": content,
        "usage": {"inputTokens": 3, "outputTokens": 5, "cachedTokens": 0, "reasoningTokens": 0},
        "costUsd": 0.25,
        "provider": "offline",
        "model": "m",
        "finishReason": "stop",
        "replayed": False,
    }


class Gateway:
    """Answers each call with what `answer` returns or raises; None: never. `withdrawn`: the asks that were."""

    address = "gateway"

    def __init__(self, answer: Callable[[Chat], Any]) -> None:
        self.chats: list[Chat] = []
        self.withdrawn: list[str] = []
        self._answer = answer

    def tell(self, message: object) -> None:
        assert isinstance(message, Withdraw)
        self.withdrawn.append(message.ask)

    def ask(self, message: object, timeout: float) -> Any:
        raise AssertionError("a chat must not block its caller beyond the stage's time")

    def request(self, message: object) -> Future[Any]:
        assert isinstance(message, Chat)
        self.chats.append(message)
        future: Future[Any] = Future()
        try:
            answer = self._answer(message)
        except Exception as error:
            future.set_exception(error)
        else:
            if answer is not None:
                future.set_result(answer)
        return future


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    yield made
    made.stop()


def llm_for(gateway: Gateway, clockwork: Clockwork, seconds: float = 60, **more: Any) -> tuple[Llm, list[Any]]:
    paid: list[Any] = []
    settings: dict[str, Any] = {"levels": (), "override": NO_OVERRIDE, "request_timeout": 60.0, **more}
    settings |= {"deadline": Deadline(clockwork, seconds), "room": Room(threading.Event())}
    caller = Caller(gateway, "j", "r", 1, "t", 1, "inference", 0, paid=paid, **settings)
    return Llm(caller), paid


@pytest.mark.parametrize(
    ("levels", "override", "expected"),
    [
        ([Choice(), Choice(), Choice()], (None, None), (None, None)),
        ([Choice(), Choice(), Choice("openai", "a")], (None, None), ("openai", "a")),
        ([Choice(), Choice(None, "b"), Choice("openai", "a")], (None, None), ("openai", "b")),
        ([Choice(None, "c"), Choice(None, "b"), Choice("openai", "a")], (None, None), ("openai", "c")),
        ([Choice("gemini"), Choice(None, "b"), Choice("openai", "a")], (None, None), ("gemini", None)),
        ([Choice("gemini", "g"), Choice(None, "b"), Choice("openai", "a")], (None, None), ("gemini", "g")),
        ([Choice("openai"), Choice("gemini", "b"), Choice("openai", "a")], (None, None), ("openai", "a")),
        ([Choice("openai"), Choice(None, "b"), Choice()], (None, None), ("openai", "b")),
        ([Choice("openai", "a"), Choice(), Choice()], ("offline", None), ("offline", None)),
        ([Choice("openai", "a"), Choice(), Choice()], ("offline", "o"), ("offline", "o")),
        ([Choice("openai", "a"), Choice(), Choice()], (None, "o"), ("openai", "o")),
        ([Choice(None, "anthropic:c"), Choice(), Choice("openai", "a")], (None, None), ("anthropic", "c")),
        ([Choice(), Choice(None, "anthropic:c"), Choice("openai", "a")], (None, None), ("anthropic", "c")),
        ([Choice("openai"), Choice(), Choice(None, "anthropic:c")], (None, None), ("openai", None)),
        ([Choice("openai", "a"), Choice(), Choice()], (None, "anthropic:c"), ("anthropic", "c")),
        ([Choice(None, "anthropic:c"), Choice(), Choice()], ("offline", None), ("offline", None)),
        ([Choice("openai", "anthropic:c"), Choice(), Choice()], (None, None), ("openai", "anthropic:c")),
        ([Choice(None, "llama3:8b"), Choice(), Choice("openai", "a")], (None, None), ("openai", "llama3:8b")),
    ],
)
def test_provider_and_model_come_from_the_strongest_level_that_fits(
    levels: list[Choice], override: tuple[str | None, str | None], expected: tuple[str | None, str | None]
) -> None:
    """Call, then task config, then pipeline; the override beats all. A model stays with its provider, whether that is
    said beside it or in its name."""
    settled = settle(levels, LlmOverride(provider=override[0], model=override[1]))
    assert (settled.provider, settled.model) == expected


def test_a_config_says_of_calls_what_has_the_right_type() -> None:
    """Other keys and values of a task's config are the task's own business."""
    assert choice_of_config({"model": "m", "temperature": 0, "maxTokens": 9}) == Choice(None, "m", 0.0, 9)
    assert choice_of_config({"llm": {"reasoningEffort": "low"}}).reasoning_effort == "low"
    assert choice_of_config({"reasoningEffort": "very"}) == Choice()
    assert choice_of_config({"model": 3, "temperature": "hot", "maxTokens": True}) == Choice()


def test_a_request_carries_only_what_somebody_asked_for(clockwork: Clockwork) -> None:
    """Temperature and the like are left out where neither the call nor a config has them."""
    gateway = Gateway(lambda chat: reply())
    llm, paid = llm_for(gateway, clockwork)
    answer = llm.chat([{"role": "user", "content": "hi"}])
    assert gateway.chats[0].request == {"messages": [{"role": "user", "content": "hi"}], "responseFormat": "text"}
    assert (answer.content, answer.cost_usd, answer.usage.input_tokens, answer.usage["output_tokens"]) == (
        "hello", 0.25, 3, 5,
    )  # fmt: skip
    assert [call["costUsd"] for call in paid] == [0.25]


def test_config_and_provider_attribute_reach_the_request(clockwork: Clockwork) -> None:
    """`llm.claude_code.chat` fixes the provider; the config's temperature goes along."""
    gateway = Gateway(lambda chat: reply())
    llm, _ = llm_for(gateway, clockwork, levels=(Choice(None, None, 0.5, 10),))
    llm.claude_code.chat("hi", stop="END")
    request = gateway.chats[0].request
    assert (request["provider"], request["temperature"], request["maxTokens"]) == ("claude-code", 0.5, 10)
    assert request["stop"] == ["END"]


def test_what_a_call_asks_for_itself_is_told_from_what_a_config_sets(clockwork: Clockwork) -> None:
    """Also when a reply is sent back to be corrected; a value of the call's own hides the config's."""
    answers = iter([reply("{"), reply("{}")])
    gateway = Gateway(lambda chat: next(answers))
    llm, _ = llm_for(gateway, clockwork, levels=(Choice(None, None, 0.5, 10), Choice(None, "m", 0.7, None, "low")))
    llm.chat("hi", max_tokens=20, response_format="json")
    assert [set(chat.configured) for chat in gateway.chats] == [{"temperature", "reasoning_effort"}] * 2
    assert gateway.chats[1].request["maxTokens"] == 20


def test_a_request_that_is_none_fails_before_it_is_sent(clockwork: Clockwork) -> None:
    """A role that does not exist costs nothing."""
    gateway = Gateway(lambda chat: reply())
    llm, _ = llm_for(gateway, clockwork)
    with pytest.raises(CallFailed, match="role") as caught:
        llm.chat([{"role": "king", "content": "hi"}])
    assert caught.value.code == "bad_request"
    assert gateway.chats == []


@pytest.mark.parametrize("content", ['{"a": 1}', '```json\n{"a": 1}\n```', ' {"a": 1}\n'])
def test_a_structured_reply_is_parsed(clockwork: Clockwork, content: str) -> None:
    """JSON, also where the model put a fence around it."""
    llm, _ = llm_for(Gateway(lambda chat: reply(content)), clockwork)
    assert llm.chat("hi", response_format="json").parsed == {"a": 1}
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert llm.chat("hi", response_format=schema).parsed == {"a": 1}


INTEGER_A = {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_a_reply_that_breaks_its_format_is_a_failed_call_that_was_paid(clockwork: Clockwork) -> None:
    """bad_reply, after one repair; all the money is booked, and asking again is a new call."""
    gateway = Gateway(lambda chat: reply('{"a": "x"}'))
    llm, paid = llm_for(gateway, clockwork)
    for _ in range(2):
        with pytest.raises(CallFailed, match="/a") as caught:
            llm.chat("hi", response_format=INTEGER_A)
        assert caught.value.code == "bad_reply"
    assert len(paid) == 4
    assert [chat.ordinal for chat in gateway.chats] == [1, 1, 2, 2]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("wrong", "fault"), [('{"a": "x"}', "/a: 'x' is not of type"), ("sorry!", "it is not JSON")])
def test_a_structured_reply_is_corrected_once(clockwork: Clockwork, is_async: bool, wrong: str, fault: str) -> None:
    """The second call shows the reply and its faults, is a call of its own, and its reply is the one that counts."""
    answers = iter([reply(wrong), reply('{"a": 1}')])
    gateway = Gateway(lambda chat: next(answers))
    llm, paid = llm_for(gateway, clockwork)
    ask = (lambda: asyncio.run(llm.achat("hi", response_format=INTEGER_A))) if is_async else (
        lambda: llm.chat("hi", response_format=INTEGER_A)
    )  # fmt: skip
    assert ask().parsed == {"a": 1}
    first, second = (chat.request for chat in gateway.chats)
    assert second["messages"][:2] == [*first["messages"], {"role": "assistant", "content": wrong}]
    assert fault in second["messages"][2]["content"]
    assert {**second, "messages": first["messages"]} == first
    assert len(paid) == 2


def test_the_repair_keeps_the_time_of_its_call(clockwork: Clockwork) -> None:
    """A call's timeout bounds both: the second message has less of it left."""
    answers = iter([reply("no"), reply("[]")])
    gateway = Gateway(lambda chat: next(answers))
    llm, _ = llm_for(gateway, clockwork)
    llm.chat("hi", response_format="json", timeout=5)
    assert gateway.chats[1].timeout < gateway.chats[0].timeout == 5


def test_what_was_cut_off_is_not_repaired(clockwork: Clockwork) -> None:
    """It would be cut off again: one call, and the message says what to raise."""
    gateway = Gateway(lambda chat: {**reply('{"a": '), "finishReason": "length"})
    llm, paid = llm_for(gateway, clockwork)
    with pytest.raises(CallFailed, match="max_tokens") as caught:
        llm.chat("hi", response_format="json")
    assert (caught.value.code, len(paid)) == ("bad_reply", 1)


def test_a_repair_that_fails_says_why(clockwork: Clockwork) -> None:
    """What the provider says of the second call is the call's failure: a budget is a budget."""

    def answer(chat: Chat) -> Any:
        if len(chat.request["messages"]) > 1:
            raise Refused("budget", "spent")
        return reply("no JSON")

    llm, paid = llm_for(Gateway(answer), clockwork)
    with pytest.raises(CallFailed, match="spent") as caught:
        llm.chat("hi", response_format="json")
    assert (caught.value.code, len(paid)) == ("budget", 1)


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def test_tools_go_there_and_their_calls_come_back(clockwork: Clockwork) -> None:
    """A reply's tool_calls go into the next request as they are; a schema is held against the last reply only."""
    answers = iter([{**reply(""), "finishReason": "tool_calls", "toolCalls": [TOOL_CALL]}, reply('{"a": 1}')])
    gateway = Gateway(lambda chat: next(answers))
    llm, _ = llm_for(gateway, clockwork)
    asked: dict[str, Any] = {"tools": [TOOL], "tool_choice": "auto", "response_format": INTEGER_A}
    first = llm.chat("hi", **asked)
    assert (first.tool_calls, first.parsed, first.finish_reason) == ([TOOL_CALL], None, "tool_calls")
    told = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": first.content, "tool_calls": first.tool_calls},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]
    assert llm.chat(told, **asked).parsed == {"a": 1}
    assert gateway.chats[0].request["tools"] == [TOOL]
    assert gateway.chats[1].request["messages"][1]["toolCalls"] == [TOOL_CALL]


def test_what_is_left_out_leaves_no_trace_in_the_request(clockwork: Clockwork) -> None:
    """A call's key in the journal is made of this: a new parameter must not change the keys of calls without it."""
    gateway = Gateway(lambda chat: reply())
    llm, _ = llm_for(gateway, clockwork)
    llm.chat("hi")
    llm.chat("hi", reasoning_effort="low")
    plain = {"messages": [{"role": "user", "content": "hi"}], "responseFormat": "text"}
    assert [chat.request for chat in gateway.chats] == [plain, plain | {"reasoningEffort": "low"}]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "objekt"}}, "response_format"),
        ({"response_format": {"properties": []}}, "response_format"),
        ({"response_format": "yaml"}, "response_format"),
        ({"tools": []}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools.0"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages.0.content"),
    ],
)
def test_a_request_that_cannot_be_is_refused_here(clockwork: Clockwork, wrong: dict[str, Any], place: str) -> None:
    """bad_request, naming the place; nothing is sent."""
    gateway = Gateway(lambda chat: reply())
    llm, _ = llm_for(gateway, clockwork)
    with pytest.raises(CallFailed) as caught:
        llm.chat(**{"messages": "hi", **wrong})
    assert caught.value.code == "bad_request"
    assert place in caught.value.message
    assert gateway.chats == []


def test_while_the_gateway_is_away_the_same_call_is_sent_again(clockwork: Clockwork) -> None:
    """A restart of the gateway is no failure of the call, and no new call."""
    answers: Iterator[Any] = iter([Unavailable("restarting"), Unavailable("restarting"), reply("there")])

    def answer(chat: Chat) -> Any:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    gateway = Gateway(answer)
    llm, _ = llm_for(gateway, clockwork)
    assert llm.chat("hi").content == "there"
    assert len(gateway.chats) == 3
    assert len(set(map(repr, gateway.chats))) == 1


def test_a_refusal_is_a_failed_call_with_its_code(clockwork: Clockwork) -> None:
    """What crosses the wire as a refusal arrives as CallFailed."""

    def refuse(chat: Chat) -> Any:
        raise Refused("rate_limited", "slow down", {"retryAfter": 3})

    llm, paid = llm_for(Gateway(refuse), clockwork)
    with pytest.raises(CallFailed, match="slow down") as caught:
        llm.chat("hi")
    assert (caught.value.code, caught.value.details, paid) == ("rate_limited", {"retryAfter": 3}, [])


@pytest.mark.parametrize(
    ("refusal", "numbers"),
    [
        (Refused("disconnected", "cut"), [1, 1]),
        (Refused("disconnected", "cut", {"billed": True}), [1, 2]),
        (Refused("truncated", "cut"), [1, 2]),
    ],
)
def test_what_was_billed_is_not_asked_again_under_its_number(
    clockwork: Clockwork, refusal: Refused, numbers: list[int]
) -> None:
    """Its failure stands in the journal and would be said again; a stage that tries once more means a new call."""

    def refuse(chat: Chat) -> Any:
        raise refusal

    gateway = Gateway(refuse)
    llm, _ = llm_for(gateway, clockwork)
    for _ in range(2):
        with pytest.raises(CallFailed, match="cut"):
            llm.chat("hi")
    assert [chat.ordinal for chat in gateway.chats] == numbers


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"messages": "\ud800"}, "messages: .* surrogates .* mend the text"),
        ({"messages": "hi", "stop": "\udfff"}, "stop: .* surrogates"),
        ({"messages": "hi", "max_tokens": 2**70}, "max_tokens: .* 64-bit"),
        ({"messages": "hi", "response_format": {"type": "object", "x": object()}}, "JSON"),
        ({"messages": "hi", "response_format": {"type": "json_object"}}, 'write "text", "json"'),
        ({"messages": "hi", "response_format": {"type": "json_schema", "json_schema": {}}}, "the JSON Schema itself"),
        ({"messages": "hi", "timeout": "x"}, "timeout: 'x': must be seconds above 0"),
        ({"messages": "hi", "timeout": 0}, "timeout: 0"),
        ({"messages": "hi", "timeout": -1.5}, "timeout: -1.5"),
        ({"messages": "hi", "timeout": float("nan")}, "timeout: nan"),
        ({"messages": "hi", "timeout": True}, "timeout: True"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(clockwork: Clockwork, wrong: dict[str, Any], place: str) -> None:
    """CallFailed bad_request with the place and what to do, whether it is awaited or not; nothing is sent."""
    gateway = Gateway(lambda chat: reply())
    llm, _ = llm_for(gateway, clockwork)
    for ask in (llm.chat, lambda **said: asyncio.run(llm.achat(**said))):
        with pytest.raises(CallFailed, match=place) as failed:
            ask(**wrong)
        assert failed.value.code == "bad_request"
    assert gateway.chats == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_never_outlives_its_stage(clockwork: Clockwork, is_async: bool) -> None:
    """No answer until the stage's time is over: StageTimeout, although the thread was waiting in C; and the gateway
    hears that nobody waits any more."""
    deadline = 0.05
    gateway = Gateway(lambda chat: None)
    llm, _ = llm_for(gateway, clockwork, deadline)
    with pytest.raises(StageTimeout):
        asyncio.run(llm.achat("hi")) if is_async else llm.chat("hi")
    assert gateway.withdrawn == [gateway.chats[-1].ask]


def test_a_call_that_is_cancelled_is_withdrawn_and_its_number_is_free(clockwork: Clockwork) -> None:
    """Asked again it is the same call; what came back, with a reply or without, is not withdrawn."""
    answers: list[Any] = [None, reply()]
    gateway = Gateway(lambda chat: answers[len(gateway.chats) - 1])
    llm, _ = llm_for(gateway, clockwork)

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(llm.achat("hi"), 0.01)
        assert (await llm.achat("hi")).content == "hello"

    asyncio.run(impatient())
    first, second = gateway.chats
    assert gateway.withdrawn == [first.ask]
    assert first.ask != second.ask
    assert (first.ordinal, second.ordinal) == (1, 1)


@pytest.mark.parametrize(
    "answer", [Unavailable("restarting"), Refused("budget_paused", "tomorrow"), Refused("disk_full", "no room")]
)
def test_a_call_that_is_cancelled_between_two_tries_gives_its_number_back(
    clockwork: Clockwork, answer: Exception
) -> None:
    """While the gateway is away, or the call waits for the next day's budget: after a crash, the one that was asked
    for in its stead has to be found under the number it is looked for."""
    is_given_up = threading.Event()

    def away_at_first(chat: Chat) -> Any:
        if not is_given_up.is_set():
            raise answer
        return reply()

    gateway = Gateway(away_at_first)
    llm, _ = llm_for(gateway, clockwork)

    async def impatient() -> None:
        asked = asyncio.ensure_future(llm.achat("hi"))
        for _ in range(5):  # the answer is here, and the pause before the next try has begun
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        is_given_up.set()
        assert (await llm.achat("hi")).content == "hello"

    asyncio.run(impatient())
    assert len(gateway.chats) >= 2
    assert {chat.ordinal for chat in gateway.chats} == {1}


def test_a_reply_that_came_as_its_call_was_cancelled_is_found_again(clockwork: Clockwork) -> None:
    """It is paid, and nobody has had it: who asks the same gets it under the same number."""
    pending: list[Future[Any]] = []

    class Slow(Gateway):
        def request(self, message: object) -> Future[Any]:
            super().request(message)
            pending.append(Future())
            return pending[-1]

    gateway = Slow(lambda chat: None)
    llm, paid = llm_for(gateway, clockwork)

    async def too_late() -> None:
        asked = asyncio.ensure_future(llm.achat("hi"))
        await asyncio.sleep(0)
        asked.cancel()
        pending[0].set_result(reply())  # in the same turn of the loop
        with pytest.raises(asyncio.CancelledError):
            await asked
        asked = asyncio.ensure_future(llm.achat("hi"))
        await asyncio.sleep(0)
        pending[1].set_result(reply())
        await asked

    asyncio.run(too_late())
    assert [chat.ordinal for chat in gateway.chats] == [1, 1]
    assert len(paid) == 1


def test_async_calls_run_side_by_side(clockwork: Clockwork) -> None:
    """Two calls that each wait for the other one's arrival both come back."""
    waiting: list[Future[Any]] = []

    class Both(Gateway):
        def request(self, message: object) -> Future[Any]:
            future: Future[Any] = Future()
            waiting.append(future)
            if len(waiting) == 2:
                for other in waiting:
                    other.set_result(reply())
            return future

    llm, paid = llm_for(Both(lambda chat: None), clockwork)

    async def both() -> list[Any]:
        return await asyncio.gather(llm.achat("one"), llm.achat("two"))

    assert [answer.content for answer in asyncio.run(both())] == ["hello", "hello"]
    assert len(paid) == 2


@given(st.lists(st.integers(0, 3), max_size=30), st.randoms(use_true_random=False))
def test_calls_find_their_own_numbers_again_in_any_order(asked: list[int], chance: Any) -> None:
    """The same calls in another order get the same set of (request, number): that is what replays need."""
    first, second = Ordinals(), Ordinals()
    before = sorted(first.take({"n": n}) for n in asked)
    shuffled = asked[:]
    chance.shuffle(shuffled)
    assert sorted(second.take({"n": n}) for n in shuffled) == before
    assert len(set(before)) == len(before)


def test_a_number_is_never_given_to_two_calls_at_once() -> None:
    """Eight threads asking the same thing get different numbers."""
    ordinals = Ordinals()
    gate = threading.Barrier(8)

    def take(_: int) -> list[int]:
        gate.wait(10)
        return [ordinals.take({"q": 1})[1] for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for taken in pool.map(take, range(8)) for number in taken]
    assert sorted(numbers) == list(range(1, 401))


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60))
def test_the_lowest_free_number_is_the_next(steps: list[int | None]) -> None:
    """However many were taken and given back in between: None takes one, n gives back the nth of those out."""
    ordinals = Ordinals()
    out: list[tuple[bytes, int]] = []
    for step in steps:
        if step is None:
            numbers = {number for _, number in out}
            ticket = ordinals.take({"q": 1})
            assert ticket[1] == next(n for n in range(1, len(out) + 2) if n not in numbers)
            out.append(ticket)
        elif step < len(out):
            ordinals.give_back(out.pop(step))


def test_a_call_that_failed_unbilled_gives_its_number_back() -> None:
    """Asked again it is the same call: after a crash the reply is found under the first number."""
    ordinals = Ordinals()
    ticket = ordinals.take({"q": 1})
    ordinals.give_back(ticket)
    assert ordinals.take({"q": 1}) == ticket
