"""The gateway itself: one chat in, one paid reply out, bought at most once. Lives in one asyncio loop, without locks.

The gateway's actor calls it; it calls providers and writes the jobs' journals. It never touches a status file: what
was paid goes to `on_paid`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from pop_actors.config import GatewaySettings
from pop_actors.core.api_keys import ProviderKeys
from pop_actors.core.budgets import DailyLimits
from pop_actors.core.events import CallPaid
from pop_actors.core.messages import Chat
from pop_actors.core.observations import Feed
from pop_actors.errors import CallFailed, Refused, Unavailable
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.account import limits_document
from pop_actors.system.gateway.askers import Answer, fail, in_words
from pop_actors.system.gateway.call import Call, resolve
from pop_actors.system.gateway.desk import Desk
from pop_actors.system.gateway.desks import Desks
from pop_actors.system.gateway.estimates import Estimates
from pop_actors.system.gateway.journal import Journals
from pop_actors.system.gateway.lane import WaitingRoom
from pop_actors.system.gateway.ledger import spent_today
from pop_actors.system.gateway.probe import probe
from pop_actors.system.gateway.prompt_log import PromptLog
from pop_actors.system.gateway.purchase import Purchase
from pop_actors.system.gateway.response_cache import ResponseCache
from pop_actors.system.gateway.shop import Shop
from pop_actors.system.gateway.spending import Spending

OnPaid = Callable[[str, CallPaid], None]
BUDGET = "daily_budget_usd"
UNCHANGED: Any = object()
LATER_ASK = "the call's deadline came while it was being bought for an earlier ask"


class Gateway:
    """Every method runs in the loop it was made in.

    `on_paid(job_id, event)` is called once per purchase, when it is on disk and before its reply is delivered; it
    returns at once.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Mapping[str, ProviderKeys],
        workspace: Workspace,
        feed: Feed,
        on_paid: OnPaid,
        *,
        clock: Callable[[], float] = time.time,
        luck: Callable[[], float] = random.random,
        prompts: PromptLog | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._feed = feed
        self._journals = Journals(workspace)
        self._room = WaitingRoom(settings.max_waiting_per_job, settings.max_waiting)
        self._desks = Desks(settings, keys, self._room, feed, luck)
        self._desks.recall(workspace, clock())
        self._shop = self._make_shop(workspace, on_paid, clock, luck, prompts)
        self._purchases: dict[str, dict[str, Purchase]] = {}  # by job, then by key
        self._closing = False
        self._closed = False

    def ask(self, chat: Chat, answer: Answer) -> None:
        """Have `answer` told the document of a `ChatReply`; CallFailed where none is, Unavailable when it closes.

        A call that is paid in the job's journal is replayed; one that is being bought is waited for, until the
        deadline of who asks.
        """
        try:
            self._take(chat, answer)
        except Exception as error:  # noqa: BLE001  (nobody else would tell it)
            fail(answer, in_words(error))

    async def chat(self, chat: Chat) -> dict[str, Any]:
        """`ask`, from within the loop."""
        answer: Answer = Future()
        self.ask(chat, answer)
        return await asyncio.wrap_future(answer)

    def job_gone(self, job_id: str) -> None:
        """The job's process ended: drop what it waits for, keep what is on its way, forget its journal after that."""
        for purchase in self._of_job(job_id):
            purchase.lose_its_job()
            if not purchase.sending:
                self._end(purchase, "the job's process ended while the call was waiting")
        self._journals.drop(job_id)

    def job_stopped(self, job_id: str) -> None:
        """Somebody ended the job: end what is on its way for it, too. What is paid is written down."""
        for purchase in self._of_job(job_id):
            self._end(purchase, "the job was stopped")

    def withdraw(self, job_id: str, ask: str) -> None:
        """That ask's answer is not wanted any more: end its call, unless somebody else waits for it, or it is paid."""
        for purchase in self._of_job(job_id):
            if purchase.withdraw(ask):
                self._end(purchase, "whoever asked gave it up")

    def set_limits(self, provider: str, **limits: float | None) -> dict[str, Any]:
        """Change some limits of a provider, or of one of its models (`provider:model`); all of them as they are then.

        Refused bad_limit, CallFailed unknown_provider.
        """
        name, _, model = provider.partition(":")
        desk = self._desks.at(name)
        changes = dict(limits)
        budget = _budget_in(changes, model)
        desk.change(changes, model or None)
        if budget is not UNCHANGED:
            self._shop.spending.change(name, budget)
        shown = limits_document(desk.limits_of(model) if model else desk.limits)
        return shown if model else shown | {"dailyBudgetUsd": self._shop.spending.budget_of(name)}

    def view(self) -> list[dict[str, Any]]:
        """One JSON object per provider and model, since the gateway started."""
        return [
            row | self._beside(desk, row["model"] or "")
            for desk in self._desks
            for row in desk.view(self._desks.default_model(desk.name))
        ]

    def budgets(self) -> list[dict[str, Any]]:
        """One JSON object per daily budget: {scope, name, limitUsd, spentUsd, state, resetsAt, waiting}."""
        return self._shop.spending.view()

    async def probe(self, provider: str | None, seconds: float) -> list[dict[str, Any]]:
        """One cheap call to that provider, or to each that is configured: {provider, model, ok, ms, code, message,
        costUsd}. CallFailed unknown_provider."""
        names = self._desks.configured() if provider is None else [self._desks.at(provider).name]
        return list(await asyncio.gather(*(self._probe(name, seconds) for name in names)))

    async def close(self) -> None:
        """End every call (askers hear Unavailable), write what was paid, close connections and files. Idempotent."""
        self._closing = True
        while self._purchases:
            under_way = [purchase for of_job in self._purchases.values() for purchase in of_job.values()]
            for purchase in under_way:
                if not purchase.paid:
                    purchase.cancel(Unavailable("the gateway is closing"))
            await asyncio.wait([purchase.task for purchase in under_way])
        if not self._closed:
            self._closed = True
            await self._desks.close()
            self._shop.spending.close()
            self._journals.close()

    def _make_shop(
        self,
        workspace: Workspace,
        on_paid: OnPaid,
        clock: Callable[[], float],
        luck: Callable[[], float],
        prompts: PromptLog | None,
    ) -> Shop:
        settings = self._settings
        wanted = settings.max_ambiguous_retries
        cache = settings.cache
        spent = spent_today(workspace, clock())
        for entry in spent:
            with contextlib.suppress(CallFailed):  # it may be of a provider that is no longer configured
                self._desks.at(entry.provider).account(entry.model)  # so that the view has it
        return Shop(
            loop=self._loop,
            journals=self._journals,
            room=self._room,
            spending=Spending(
                workspace.state,
                _daily_limits(settings),
                settings.on_budget,
                spent,
                self._feed,
                clock,
            ),
            estimates=Estimates(self._desks.prices),
            feed=self._feed,
            desk=self._desks.at,
            on_paid=on_paid,
            max_retries=settings.max_retries,
            max_ambiguous_retries=settings.max_retries if wanted is None else wanted,
            clock=clock,
            luck=luck,
            cache=(
                ResponseCache(workspace.state, cache.ttl_seconds, cache.max_entries, clock) if cache.enabled else None
            ),
            prompts=prompts,
        )

    def _beside(self, desk: Desk, model: str) -> dict[str, Any]:
        """What a desk does not know of a model."""
        spending = self._shop.spending
        return {
            "spentTodayUsd": round(spending.spent_on(desk.name, model), 10),
            "dailyBudgetUsd": spending.budget_of(desk.name),
        }

    async def _probe(self, name: str, seconds: float) -> dict[str, Any]:
        return await probe(self._shop, name, self._desks.default_model(name), seconds)

    def _take(self, chat: Chat, answer: Answer) -> None:
        if self._closing:
            raise Unavailable("the gateway is closing")
        deadline = self._loop.time() + min(chat.timeout, self._settings.request_timeout_seconds)
        call = resolve(chat, self._desks.defaults)
        purchase = self._purchases.get(call.job_id, {}).get(call.key)
        if purchase is None:
            self._begin(call, deadline).tell(answer, chat.ask)
            return
        purchase.job_gone = False
        purchase.tell(answer, chat.ask)
        impatience = self._loop.call_at(deadline, fail, answer, CallFailed("timeout", LATER_ASK))
        answer.add_done_callback(lambda _: self._loop.call_soon_threadsafe(impatience.cancel))

    def _begin(self, call: Call, deadline: float) -> Purchase:
        purchase = Purchase(call, deadline, self._shop)
        self._purchases.setdefault(call.job_id, {})[call.key] = purchase
        purchase.start(self._forget)
        return purchase

    def _of_job(self, job_id: str) -> list[Purchase]:
        return list(self._purchases.get(job_id, {}).values())

    def _end(self, purchase: Purchase, why: str) -> None:
        """Unless it is paid. Out of the table now: the same may be asked again before its task has ended."""
        if not purchase.paid:
            self._forget(purchase)
            purchase.give_up(CallFailed("cancelled", why))

    def _forget(self, purchase: Purchase) -> None:
        call = purchase.call
        of_job = self._purchases.get(call.job_id, {})
        if of_job.get(call.key) is purchase:
            del of_job[call.key]
            if not of_job:
                del self._purchases[call.job_id]

    def __repr__(self) -> str:
        return f"Gateway({sum(map(len, list(self._purchases.values())))} calls under way, {self._room.waiting} waiting)"


def _daily_limits(settings: GatewaySettings) -> DailyLimits:
    by_provider = {name: table.daily_budget_usd for name, table in settings.providers.items()}
    limited = {name: limit for name, limit in by_provider.items() if limit is not None}
    return DailyLimits(settings.daily_budget_usd, dict(settings.pipeline_daily_budget_usd), limited)


def _budget_in(changes: dict[str, Any], model: str) -> Any:
    """Take the daily budget out of the changes; UNCHANGED where none is among them. Refused bad_limit."""
    if BUDGET not in changes:
        return UNCHANGED
    budget: float | None = changes.pop(BUDGET)
    if model:
        raise Refused("bad_limit", f"{BUDGET} is a provider's as a whole; leave out the model")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or not budget >= 0):
        raise Refused("bad_limit", f"{BUDGET} = {budget!r}: a number from 0, or null for no limit")
    return budget
