"""The requests made to one provider for one call: admitted by its desk, written down as sent, made again where that
helps. Owned by the call's purchase, which writes down what comes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from pop_actors.core.admission import Pass
from pop_actors.core.budgets import Payer
from pop_actors.core.chat import Usage
from pop_actors.core.observations import CallAdmitted, CallEnded, CallQueued, CallRetried
from pop_actors.core.retries import GiveUp, after_failure
from pop_actors.errors import DISK_FULL, CallFailed
from pop_actors.providers.catalogue import OFFLINE
from pop_actors.providers.types import AttemptFailed, ProviderReply
from pop_actors.storage.fault_points import reach
from pop_actors.system.gateway.call import Call, failed_record, sent_record
from pop_actors.system.gateway.desk import Desk, Turn
from pop_actors.system.gateway.journal import TRIES_IN_TROUBLE, TROUBLE_SECONDS, JobJournal
from pop_actors.system.gateway.shop import Shop
from pop_actors.system.gateway.spending import Hold

NO_ROOM_SECONDS = 1.0
Billed = Callable[[JobJournal, "Attempts", AttemptFailed], Awaitable[None]]


class Attempts:
    """`sending`: a request is on its way. `made`: requests made for the call so far, by whomever. `retries`: those of
    them that were made here after a failure."""

    def __init__(
        self,
        call: Call,
        desk: Desk,
        shop: Shop,
        journal: JobJournal,
        deadline: float,
        made: int,
        *,
        is_last: bool,
        is_wanted: Callable[[], bool],
        billed: Billed,
    ) -> None:
        """`deadline`: this provider's, in the loop's time. `is_last`: nobody is asked after it. `is_wanted()`: whether
        somebody still waits for the reply. `billed`: books a failure that cost something and is followed by another
        request."""
        self.call = call
        self.account = desk.account(call.model)
        self.sending = False
        self.made = made
        self.retries = 0
        self._desk = desk
        self._shop = shop
        self._journal = journal
        self._deadline = deadline
        self._is_last = is_last
        self._is_wanted = is_wanted
        self._billed = billed
        self._is_free = desk.kind == OFFLINE
        self._ambiguous = 0
        self._hold: Hold | None = None
        self._loop = shop.loop
        self._whose = call.whose
        self._begun = 0.0

    @property
    def payer(self) -> Payer:
        """As the budgets stand now."""
        call = self.call
        return Payer(call.job_id, call.pipeline, call.provider, self._journal.spent, call.budget_usd)

    async def admitted(self, arrived: Callable[[], None]) -> Pass:
        """The first pass, with the wait for it told to whoever listens. `arrived()` is called when it lines up."""
        begun = self._loop.time()
        self._shop.feed.publish(CallQueued(self.call.provider))
        self.account.waiting += 1
        granted: Pass | None = None
        try:
            granted = await self._pass(arrived)
        except CallFailed as failure:
            self.account.failed += 1
            self.account.note(failure, self._shop.now())
            raise
        finally:
            self.account.waiting -= 1
            waited = self._loop.time() - begun
            self._shop.feed.publish(
                CallAdmitted(self.call.provider, waited, granted=granted is not None, place=self._whose)
            )
            if granted is None:
                self._let_go()
        self.account.in_flight += 1
        self._begun = self._loop.time()
        return granted

    async def reply(self, granted: Pass) -> ProviderReply:
        """Requests until one succeeds. AttemptFailed when none does."""
        while True:
            try:
                return await self._attempt(granted)
            except AttemptFailed as failure:
                await self._rest(failure)
            granted = await self._pass(None)

    def ended(self, outcome: str, bill: ProviderReply | AttemptFailed | None) -> None:
        """What was admitted has come to an end, and is booked where it cost anything."""
        self.account.in_flight -= 1
        self._let_go()
        usage = (bill.usage if bill else None) or Usage()
        self._shop.feed.publish(
            CallEnded(
                self.call.job_id,
                self.call.provider,
                self.call.model,
                outcome,
                self._loop.time() - self._begun,
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.reasoning_tokens,
                bill.cost_usd if bill else None,
                usage.cache_write_tokens,
                self.retries,
                self._whose,
                *((bill.finish_reason, bill.model) if isinstance(bill, ProviderReply) else ("", "")),
            )
        )

    def given_up(self, why: CallFailed) -> None:
        """The call is ended from outside: written down, if anything was sent. What a request under way may have used
        stays reserved."""
        self.account.failed += 1
        if self.made:
            failure = AttemptFailed(why.code, why.message, "ambiguous")
            with contextlib.suppress(CallFailed):  # it is for people
                self._journal.append(failed_record(self.call, failure, why.message, self._shop.now()))

    # Leave to make a request

    async def _pass(self, arrived: Callable[[], None] | None) -> Pass:
        """Leave of the limits and of the budgets; a retry has no `arrived`. While calls under way have what is left of
        a budget, it waits for them outside the lane, so that nobody else does."""
        if not self._is_free:
            self._shop.spending.check(self.payer)
        expected = await self._expected()
        if arrived is not None:
            arrived()
        granted = await self._desk.enter(self._turn(again=arrived is None))
        try:
            if self._has_money(expected):
                return granted
        except CallFailed:
            self._desk.give_back(granted)
            raise
        self._desk.give_back(granted)
        await self._money(expected)
        return await self._desk.enter(self._turn(again=True))

    async def _expected(self) -> float:
        """US dollars this call may cost, where a budget wants to know."""
        if self._is_free or not self._shop.spending.is_limited(self.payer):
            return 0.0
        call = self.call
        guess = self.account.guess.tokens(call.size, call.request.max_tokens)
        return await self._shop.estimates.cost(call.provider, call.model, guess)

    async def _money(self, expected: float) -> None:
        """Wait for calls under way to leave enough; it counts as waiting as any call does. CallFailed queue_full."""
        room = self._shop.room
        room.admit(self.call.job_id)
        room.enter(self.call.job_id)
        try:
            while not self._has_money(expected):
                await self._shop.spending.changed(self._deadline)
        finally:
            room.leave(self.call.job_id)

    def _has_money(self, expected: float) -> bool:
        if self._hold is None and not self._is_free:
            self._hold = self._shop.spending.hold(self.payer, expected)
            return self._hold is not None
        return True

    def _let_go(self) -> None:
        if self._hold is not None:
            self._shop.spending.let_go(self._hold)

    def _turn(self, *, again: bool) -> Turn:
        call = self.call
        return Turn(
            call.job_id,
            call.model,
            call.size,
            call.request.max_tokens,
            self._deadline,
            priority=call.priority,
            again=again,
            patient=self._is_last,
        )

    # A request

    async def _attempt(self, granted: Pass) -> ProviderReply:
        try:
            await self._note_sent()
        except BaseException:
            self._desk.give_back(granted)
            raise
        result: ProviderReply | AttemptFailed | None = None
        try:
            reach("call.sent")
            self.account.requests += 1
            self.sending = True
            result = reply = await self._desk.provider().chat(self.call.request, self.call.model, self._deadline)
        except AttemptFailed as failure:
            result = failure
            raise
        else:
            return reply
        finally:
            self.sending = False
            self._desk.leave(granted, result)

    async def _note_sent(self) -> None:
        """No request leaves that is not written down before; a device that fails is tried a few times."""
        self.made += 1
        for left in reversed(range(TRIES_IN_TROUBLE)):
            try:
                self._journal.append(sent_record(self.call, self.made, self._shop.now()))
            except CallFailed as failure:
                if failure.code == DISK_FULL:
                    self._shop.journals.full_until = self._loop.time() + NO_ROOM_SECONDS
                if failure.code == DISK_FULL or not left:
                    raise
                await asyncio.sleep(TROUBLE_SECONDS)
            else:
                return

    async def _rest(self, failure: AttemptFailed) -> None:
        """Wait until the next attempt may be made. The failure itself where there is to be none."""
        shop = self._shop
        self.account.note(failure, shop.now())
        if not self._is_wanted():
            raise failure
        remaining = self._deadline - self._loop.time()
        decision = after_failure(
            failure.fate, self.retries, shop.max_retries, failure.retry_after, remaining, shop.luck()
        )
        is_ambiguous = failure.fate == "ambiguous"
        if is_ambiguous and self._ambiguous >= shop.max_ambiguous_retries:
            decision = GiveUp(f"{self._ambiguous} retries were made of what may have been paid already")
        if isinstance(decision, GiveUp):
            failure.details["gaveUp"] = decision.why
            raise failure
        if failure.usage is not None:
            await self._billed(self._journal, self, failure)
        self.retries += 1
        self._ambiguous += is_ambiguous
        self.account.retries += 1
        self.account.ambiguous_retries += is_ambiguous
        shop.feed.publish(CallRetried(self.call.provider, self.call.model, failure.code, is_ambiguous))
        await asyncio.sleep(decision.after)

    def told(self, failure: AttemptFailed) -> CallFailed:
        """The failure as the asker is to hear it, with what a program may want to know. `billed`: it is settled, and
        would be replayed."""
        provider, model = self.call.provider, self.call.model
        billed = {"billed": True} if failure.usage is not None else {}
        details = {**failure.details, **billed, "provider": provider, "model": model, "retries": self.retries}
        return CallFailed(failure.code, f"{provider}, {model}: {failure.message}", details)

    def __repr__(self) -> str:
        doing = "sending" if self.sending else "waiting"
        return f"Attempts({self.call.provider}, {self.call.model}, {doing}, {self.made} made)"
