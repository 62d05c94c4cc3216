"""One call's way through the gateway: replay it, or have it answered by one provider after another, write down and
hand over.

Owned by the gateway, which starts one per key; it runs as a task of its own, so that a purchase outlives its asker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from pop_actors.core.chat import Usage
from pop_actors.core.fallback import falls_back, name_all, share_of
from pop_actors.core.observations import CallFellBack, CallReplayed
from pop_actors.errors import DISK_FULL, CallFailed, Unavailable
from pop_actors.providers.types import AttemptFailed, ProviderReply
from pop_actors.storage.fault_points import reach
from pop_actors.system.gateway.askers import Answer, Askers, fail, in_words
from pop_actors.system.gateway.attempts import NO_ROOM_SECONDS, Attempts
from pop_actors.system.gateway.call import Call, cached_record, failed_record, paid_record, replay
from pop_actors.system.gateway.journal import TRIES_IN_TROUBLE, TROUBLE_SECONDS, JobJournal
from pop_actors.system.gateway.journal_records import paid_event
from pop_actors.system.gateway.ledger import Entry
from pop_actors.system.gateway.shop import Shop

_log = logging.getLogger("pop_actors.gateway")


class Purchase:
    """`sending`: a request is on its way. `paid`: a reply is here. `job_gone`: nobody waits for it any more.

    It goes on when its askers do not. A reply that cannot be written down for want of room is kept here until it is on
    disk. Whoever waits for it, or asks for it meanwhile, hears disk_full, and asks again.
    """

    task: asyncio.Task[dict[str, Any]]

    def __init__(self, call: Call, deadline: float, shop: Shop) -> None:
        self.call = call
        self.paid = False
        self.job_gone = False
        self._deadline = deadline
        self._shop = shop
        self._loop = shop.loop
        self._attempts: Attempts | None = None
        self._arrived: Callable[[], None] = _nobody_waits
        self._has_room = True
        self._askers = Askers()
        self._why_cancelled: CallFailed | Unavailable = Unavailable("the gateway is closing")

    @property
    def sending(self) -> bool:
        return self._attempts is not None and self._attempts.sending

    def start(self, forget: Callable[[Purchase], None]) -> None:
        """Begin; `forget` is called when it has ended."""

        def ended(task: asyncio.Task[dict[str, Any]]) -> None:
            forget(self)
            error = self._why_cancelled if task.cancelled() else task.exception()
            if error is None:
                self._askers.tell(task.result())
            else:
                self._askers.fail(in_words(error))

        self.task = self._loop.create_task(self._run())
        self.task.add_done_callback(ended)

    def cancel(self, why: CallFailed | Unavailable) -> None:
        """End it; its askers hear why."""
        self._why_cancelled = why
        self.task.cancel()

    def give_up(self, why: CallFailed) -> None:
        """End it for good: it is written down as failed, if anything was sent for it."""
        if self._attempts is not None:
            self._attempts.given_up(why)
        self.cancel(why)

    def lose_its_job(self) -> None:
        """The job's process ended, and all who waited there."""
        self.job_gone = True
        self._askers.lose_their_job()

    def withdraw(self, ask: str) -> bool:
        """That ask's answer is not wanted any more; whether it was the last one that was."""
        return self._askers.withdraw(ask)

    def tell(self, answer: Answer, ask: str = "") -> None:
        """Have it told what this comes to, until `withdraw(ask)`. CallFailed disk_full: ask again."""
        if self._has_room:
            self._askers.add(answer, ask)
        else:
            fail(answer, CallFailed(DISK_FULL, "the reply is here; there is no room to write it down"))

    async def _run(self) -> dict[str, Any]:
        job_id = self.call.job_id
        if not self._shop.journals.is_open(job_id):
            with contextlib.suppress(CallFailed):  # no such provider: a reply may be in the journal all the same
                self._arrived = self._shop.desk(self.call.provider).expect(job_id)
        try:
            return await self._run_with(await self._shop.journals.hold(job_id))
        finally:
            self._arrived()

    async def _run_with(self, journal: JobJournal) -> dict[str, Any]:
        try:
            settled = journal.settled(self.call.key)
            if settled is not None:
                return self._replay(settled)
            cached = None if self._shop.cache is None else await self._shop.cache.find(self.call)
            if cached is not None:
                return await self._deliver_cached(journal, cached)
            self._shop.journals.refuse_while_full(self._loop.time())  # before it takes a pass that would be for nothing
            return await self._buy(journal)
        finally:
            self._shop.journals.release(journal)

    def _replay(self, settled: dict[str, Any]) -> dict[str, Any]:
        provider, model = settled["provider"], settled["model"]
        self._shop.feed.publish(CallReplayed(provider))
        with contextlib.suppress(CallFailed):  # it may be of a provider that is no longer configured
            self._shop.desk(provider).account(model).replayed += 1
        return replay(settled)

    # Buying

    async def _buy(self, journal: JobJournal) -> dict[str, Any]:
        """Ask one after another. The failure of the last one that was asked, with those before it in its details."""
        turns = self.call.turns
        before: list[dict[str, str]] = []
        for number, call in enumerate(turns):
            left = len(turns) - 1 - number
            try:
                return await self._ask(call, journal, left)
            except CallFailed as failure:
                if not left or not self._goes_on(failure):
                    name_all(failure, before)
                    raise
                told = {"code": failure.code, "message": failure.message}
                before = [*before, {"provider": call.provider, "model": call.model, **told}]
                following = turns[number + 1]
                self._shop.feed.publish(
                    CallFellBack(call.provider, call.model, failure.code, following.provider, following.model)
                )
        raise AssertionError("a call has at least one turn")

    def _goes_on(self, failure: CallFailed) -> bool:
        return not self.job_gone and self._loop.time() < self._deadline and falls_back(failure, billed=self.paid)

    async def _ask(self, call: Call, journal: JobJournal, left: int) -> dict[str, Any]:
        desk = self._shop.desk(call.provider)
        desk.provider()  # refuse at once what has no key
        now = self._loop.time()
        deadline = now + share_of(self._deadline - now, left) if left else self._deadline
        made = 0 if self._attempts is None else self._attempts.made
        attempts = self._attempts = Attempts(
            call,
            desk,
            self._shop,
            journal,
            deadline,
            made,
            is_last=not left,
            is_wanted=lambda: not self.job_gone,
            billed=self._billed_and_retried,
        )
        try:
            desk.check(call.request, call.model, call.configured)
        except AttemptFailed as failure:
            attempts.account.note(failure, self._shop.now())
            raise await self._failed(journal, attempts, failure) from None
        try:
            granted = await attempts.admitted(self._arrived)
        except AttemptFailed as failure:  # nothing was sent: it is no line of the journal
            raise attempts.told(failure) from None
        outcome = "internal"
        bill: ProviderReply | AttemptFailed | None = None
        try:
            if self._shop.prompts is not None:
                self._shop.prompts.sent(call)
            bill = reply = await attempts.reply(granted)
            self.paid = True
            document = await self._deliver(journal, attempts, reply)
        except AttemptFailed as failure:
            outcome = failure.code
            bill = failure
            raise await self._failed(journal, attempts, failure) from None
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
            attempts.ended(outcome, bill)

    async def _deliver(self, journal: JobJournal, attempts: Attempts, reply: ProviderReply) -> dict[str, Any]:
        reach("call.replied")
        record = paid_record(attempts.call, reply, self._shop.now())
        await self._settle(journal, record)
        reach("call.paid")
        self._book(journal, attempts, record, reply.usage, reply.cost_usd)
        reach("call.booked")
        document: dict[str, Any] = record["reply"]
        if self._shop.prompts is not None:
            self._shop.prompts.replied(attempts.call, document)
        if self._shop.cache is not None:
            await self._shop.cache.keep(attempts.call, document)
        return document

    async def _deliver_cached(self, journal: JobJournal, document: dict[str, Any]) -> dict[str, Any]:
        """It is settled as what was paid is, at no cost, so that it is the same reply after a crash."""
        record = cached_record(self.call, document, self._shop.now())
        await self._settle(journal, record)
        self._shop.feed.publish(CallReplayed(self.call.provider, cached=True))
        self._tell(record)
        reply: dict[str, Any] = record["reply"]
        return reply

    async def _failed(self, journal: JobJournal, attempts: Attempts, failure: AttemptFailed) -> CallFailed:
        """Write the failure down, book what it cost, and say it as the asker is to hear it."""
        call = attempts.call
        attempts.account.failed += 1
        told = attempts.told(failure)
        record = failed_record(call, failure, told.message, self._shop.now())
        if failure.usage is None:
            with contextlib.suppress(CallFailed):  # it is for people, and cost nothing
                journal.append(record)
        else:
            self.paid = True
            await self._settle(journal, record)
            self._book(journal, attempts, record, failure.usage, failure.cost_usd)
        return told

    async def _billed_and_retried(self, journal: JobJournal, attempts: Attempts, failure: AttemptFailed) -> None:
        """A failure that said what it used, and is followed by another request: booked under a key of its own, since
        the call itself is not settled by it. To its end, also where the call is given up meanwhile."""
        booking = self._loop.create_task(self._book_apart(journal, attempts, failure))
        try:
            await asyncio.shield(booking)
        except asyncio.CancelledError:
            with contextlib.suppress(CallFailed):
                await booking
            raise

    async def _book_apart(self, journal: JobJournal, attempts: Attempts, failure: AttemptFailed) -> None:
        record = failed_record(attempts.call, failure, failure.message, self._shop.now())
        number = attempts.made
        while f"{attempts.call.key}#{number}" in journal:  # the call was made before, and given up or lost
            number += 1
        record["key"] = f"{attempts.call.key}#{number}"
        await self._settle(journal, record)
        self._book(journal, attempts, record, failure.usage or Usage(), failure.cost_usd)

    async def _settle(self, journal: JobJournal, record: dict[str, Any]) -> None:
        """What was paid is on disk before anybody hears of it: it waits for room as long as that takes, and where the
        device fails it is tried a few times."""
        offset: int | None = None
        troubles = 0
        key: str = record["key"]
        while key not in journal:
            try:
                offset = journal.append(record) if offset is None else offset
                await journal.settle(key, offset)
            except CallFailed as failure:
                troubles += failure.code != DISK_FULL
                if troubles >= TRIES_IN_TROUBLE:
                    raise
                self._say_no_room(failure)
                try:
                    await asyncio.sleep(NO_ROOM_SECONDS if failure.code == DISK_FULL else TROUBLE_SECONDS)
                except asyncio.CancelledError:
                    _say_lost(record, failure)
                    raise
        self._has_room = True

    def _say_no_room(self, failure: CallFailed) -> None:
        if failure.code == DISK_FULL and self._has_room:
            self._has_room = False
            self._askers.fail(failure)

    def _book(
        self, journal: JobJournal, attempts: Attempts, record: dict[str, Any], usage: Usage, cost_usd: float | None
    ) -> None:
        call = attempts.call
        attempts.account.book(usage, cost_usd)
        entry = Entry(record["key"], call.job_id, call.pipeline, call.provider, call.model, cost_usd, record["at"])
        self._shop.spending.book(attempts.payer, entry)
        journal.spent += cost_usd or 0.0
        self._tell(record)

    def _tell(self, record: dict[str, Any]) -> None:
        try:
            self._shop.on_paid(self.call.job_id, paid_event(record))
        except Unavailable:  # its start reads the journal, where the call stands
            _log.warning("%s: a paid call could not be told to the status-writer now", self.call.job_id)

    def __repr__(self) -> str:
        doing = "paid" if self.paid else "sending" if self.sending else "waiting"
        return f"Purchase({self.call.job_id}, {self.call.provider}, {self.call.model}, {doing})"


def _nobody_waits() -> None:
    """Its journal was open: no place was kept for it."""


def _say_lost(record: dict[str, Any], failure: CallFailed) -> None:
    """The service stops, and its patience is over: the journal has the call as sent, and nothing has what it cost."""
    usage, cost = record["usage"], record["costUsd"]
    _log.error(
        "%s of task %s is lost: it was paid (%s input and %s output tokens of %s:%s, %s), and %s",
        record["key"], record["task"], usage["inputTokens"], usage["outputTokens"], record["provider"],
        record["model"], "at an unknown price" if cost is None else f"{cost:g} US dollars", failure,
    )  # fmt: skip
