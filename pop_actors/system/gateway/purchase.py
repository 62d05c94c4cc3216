"""One call's way through the gateway: replay it, or wait, send, retry, write down and hand over.

Owned by the gateway, which starts one per key; it runs as a task of its own, so that a purchase outlives its asker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pop_actors.core.chat import Usage
from pop_actors.core.events import CallPaid
from pop_actors.core.ids import timestamp
from pop_actors.core.limits import GiveUp, Permit, after_failure
from pop_actors.core.observations import CallAdmitted, CallEnded, CallQueued, CallReplayed, CallRetried, Feed
from pop_actors.errors import DISK_FULL, CallFailed, Unavailable
from pop_actors.providers.types import AttemptFailed, ProviderReply
from pop_actors.storage.fault_points import reach
from pop_actors.system.gateway.call import Call, failed_record, paid_record, replay, sent_record
from pop_actors.system.gateway.desk import Desk
from pop_actors.system.gateway.journal import JobJournal, Journals, paid_event

NO_ROOM_SECONDS = 1.0
TROUBLE_SECONDS = 0.2
TRIES_IN_TROUBLE = 4

_log = logging.getLogger("pop_actors.gateway")


@dataclass(frozen=True, slots=True)
class Shop:
    """What every purchase works with. `luck` is in [0, 1)."""

    journals: Journals
    feed: Feed
    on_paid: Callable[[str, CallPaid], None]
    max_retries: int
    clock: Callable[[], float]
    luck: Callable[[], float]

    def now(self) -> str:
        return timestamp(self.clock())


class Purchase:
    """`sending`: a request is on its way. `paid`: a reply is here. `job_gone`: nobody waits for it any more.

    A reply that cannot be written down for want of room is kept here until it is on disk. Whoever waits for it, or asks
    for it meanwhile, hears disk_full, and asks again.
    """

    task: asyncio.Task[dict[str, Any]]

    def __init__(self, call: Call, deadline: float, desk: Desk, shop: Shop) -> None:
        self.call = call
        self.sending = False
        self.paid = False
        self.job_gone = False
        self._deadline = deadline
        self._desk = desk
        self._shop = shop
        self._account = desk.account(call.model)
        self._loop = asyncio.get_running_loop()
        self._retries = 0
        self._has_room = True
        self._word: asyncio.Future[dict[str, Any]] = self._loop.create_future()

    def start(self, forget: Callable[[Purchase], None]) -> None:
        """Begin; `forget` is called when it has ended."""

        def ended(task: asyncio.Task[dict[str, Any]]) -> None:
            forget(self)
            error = None if task.cancelled() else task.exception()
            if task.cancelled():
                self._word.cancel()
            elif error is None:
                self._word.set_result(task.result())
            else:
                self._say(error)

        self.task = self._loop.create_task(self._run())
        self.task.add_done_callback(ended)

    def cancel(self) -> None:
        self.task.cancel()

    async def outcome(self) -> dict[str, Any]:
        """What it comes to, whatever becomes of who waits. CallFailed disk_full: ask again."""
        if not self._has_room:
            raise CallFailed(DISK_FULL, "the reply is here; there is no room to write it down")
        return await asyncio.shield(self._word)

    def _say(self, error: BaseException) -> None:
        """To all who wait for word. Where every asker has gone, nobody hears it."""
        self._word.set_exception(error)
        self._word.exception()

    async def _run(self) -> dict[str, Any]:
        journal = await self._shop.journals.hold(self.call.job_id)
        try:
            settled = journal.settled(self.call.key)
            if settled is None:
                return await self._buy(journal)
            self._account.replayed += 1
            self._shop.feed.publish(CallReplayed(self.call.provider))
            return replay(settled)
        finally:
            self._shop.journals.release(journal)

    async def _buy(self, journal: JobJournal) -> dict[str, Any]:
        self._desk.provider()  # refuse at once what has no key
        self._shop.journals.refuse_while_full(self._loop.time())  # before it takes a permit that would be for nothing
        permit = await self._admitted()
        begun = self._loop.time()
        self._account.in_flight += 1
        outcome = "internal"
        bill: ProviderReply | AttemptFailed | None = None
        try:
            bill = reply = await self._reply(journal, permit)
            document = await self._deliver(journal, reply)
        except AttemptFailed as failure:
            outcome = failure.code
            bill = failure
            raise await self._failed(journal, failure) from None
        except CallFailed as failure:
            outcome = failure.code
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        else:
            outcome = "ok"
            return document
        finally:
            self._account.in_flight -= 1
            self._ended(outcome, self._loop.time() - begun, bill)

    async def _admitted(self) -> Permit:
        """The first permit, with the wait for it told to whoever listens."""
        begun = self._loop.time()
        self._shop.feed.publish(CallQueued(self.call.provider))
        self._account.waiting += 1
        permit: Permit | None = None
        try:
            permit = await self._permit()
        except CallFailed as failure:
            self._account.failed += 1
            self._account.note(failure, self._shop.now())
            raise
        finally:
            self._account.waiting -= 1
            waited = self._loop.time() - begun
            self._shop.feed.publish(CallAdmitted(self.call.provider, waited, granted=permit is not None))
        return permit

    async def _permit(self) -> Permit:
        call = self.call
        tokens = self._desk.guess(call.model, call.size, call.request.max_tokens)
        try:
            return await self._desk.lane.enter(call.job_id, tokens, self._deadline, again=self._retries > 0)
        except TimeoutError:
            raise AttemptFailed("timeout", "the deadline came before the limits let it through", "permanent") from None

    async def _reply(self, journal: JobJournal, permit: Permit) -> ProviderReply:
        """Attempts until one succeeds. AttemptFailed when none does."""
        while True:
            try:
                return await self._attempt(journal, permit)
            except AttemptFailed as failure:
                await self._rest(failure)
            permit = await self._permit()

    async def _attempt(self, journal: JobJournal, permit: Permit) -> ProviderReply:
        tokens: float | None = 0.0
        try:
            self._note_sent(journal)
            tokens = None
            reach("call.sent")
            self._account.requests += 1
            self.sending = True
            reply = await self._desk.provider().chat(self.call.request, self.call.model, self._deadline)
        except AttemptFailed as failure:
            tokens = self._learn(failure.usage) if failure.usage else _tokens_without_reply(failure)
            raise
        else:
            self.paid = True
            tokens = self._learn(reply.usage)
            return reply
        finally:
            self.sending = False
            self._desk.lane.leave(permit, tokens)

    def _note_sent(self, journal: JobJournal) -> None:
        """No request leaves that is not written down before."""
        try:
            journal.append(sent_record(self.call, self._retries + 1, self._shop.now()))
        except CallFailed as failure:
            if failure.code == DISK_FULL:
                self._shop.journals.full_until = self._loop.time() + NO_ROOM_SECONDS
            raise

    async def _rest(self, failure: AttemptFailed) -> None:
        """Wait until the next attempt may be made. The failure itself where there is to be none."""
        shop = self._shop
        self._account.note(failure, shop.now())
        if self.job_gone:
            raise failure
        remaining = self._deadline - self._loop.time()
        decision = after_failure(
            failure.fate, self._retries, shop.max_retries, failure.retry_after, remaining, shop.luck()
        )
        if isinstance(decision, GiveUp):
            failure.details["gaveUp"] = decision.why
            raise failure
        self._retries += 1
        self._account.retries += 1
        shop.feed.publish(CallRetried(self.call.provider, self.call.model, failure.code))
        await asyncio.sleep(decision.after)

    async def _deliver(self, journal: JobJournal, reply: ProviderReply) -> dict[str, Any]:
        reach("call.replied")
        record = paid_record(self.call, reply, self._shop.now())
        await self._settle(journal, record)
        reach("call.paid")
        self._book(record, reply.usage, reply.cost_usd)
        reach("call.booked")
        document: dict[str, Any] = record["reply"]
        return document

    async def _failed(self, journal: JobJournal, failure: AttemptFailed) -> CallFailed:
        """Write the failure down, book what it cost, and say it as the asker is to hear it."""
        call = self.call
        self._account.failed += 1
        told = CallFailed(
            failure.code,
            f"{call.provider}, {call.model}: {failure.message}",
            {**failure.details, "provider": call.provider, "model": call.model, "retries": self._retries},
        )
        record = failed_record(call, failure, told.message, self._shop.now())
        if failure.usage is None:
            with contextlib.suppress(CallFailed):  # it is for people, and cost nothing
                journal.append(record)
        else:
            self.paid = True
            await self._settle(journal, record)
            self._book(record, failure.usage, failure.cost_usd)
        return told

    async def _settle(self, journal: JobJournal, record: dict[str, Any]) -> None:
        """What was paid is on disk before anybody hears of it: it waits for room as long as that takes, and where the
        device fails it is tried a few times."""
        offset: int | None = None
        troubles = 0
        while self.call.key not in journal:
            try:
                offset = journal.append(record) if offset is None else offset
                await journal.settle(self.call.key, offset)
            except CallFailed as failure:
                troubles += failure.code != DISK_FULL
                if troubles >= TRIES_IN_TROUBLE:
                    raise
                self._say_no_room(failure)
                await asyncio.sleep(NO_ROOM_SECONDS if failure.code == DISK_FULL else TROUBLE_SECONDS)
        self._has_room = True

    def _say_no_room(self, failure: CallFailed) -> None:
        if failure.code == DISK_FULL and self._has_room:
            self._has_room = False
            self._say(failure)
            self._word = self._loop.create_future()

    def _book(self, record: dict[str, Any], usage: Usage, cost_usd: float | None) -> None:
        self._account.book(usage, cost_usd)
        try:
            self._shop.on_paid(self.call.job_id, paid_event(record))
        except Unavailable:  # its start reads the journal, where the call stands
            _log.warning("%s: a paid call could not be told to the status-writer now", self.call.job_id)

    def _learn(self, usage: Usage) -> float:
        """Correct the guess of tokens by what was used; the sum."""
        self._account.guess.learn(self.call.size, usage.input_tokens, usage.output_tokens)
        return usage.input_tokens + usage.output_tokens

    def _ended(self, outcome: str, seconds: float, bill: ProviderReply | AttemptFailed | None) -> None:
        usage = (bill.usage if bill else None) or Usage()
        ended = CallEnded(
            self.call.job_id,
            self.call.provider,
            self.call.model,
            outcome,
            seconds,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            bill.cost_usd if bill else None,
        )
        self._shop.feed.publish(ended)

    def __repr__(self) -> str:
        doing = "paid" if self.paid else "sending" if self.sending else "waiting"
        return f"Purchase({self.call.job_id}, {self.call.provider}, {self.call.model}, {doing})"


def _tokens_without_reply(failure: AttemptFailed) -> float | None:
    """None: it may have been worked on, so what was reserved stands."""
    return None if failure.fate == "ambiguous" else 0.0
