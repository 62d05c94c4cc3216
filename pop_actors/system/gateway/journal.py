"""The journals of bought completions, one `llm-calls.jsonl` per job: what was sent, what was paid, what failed.

The gateway's loop writes; a few threads wait for the disk in its stead. A settled call (paid, or failed and billed all
the same) is found again by its key, so that it is never bought twice. Nothing here talks to a provider.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pop_actors.errors import DISK_FULL, CallFailed, Damaged
from pop_actors.storage.files import sync_directory
from pop_actors.storage.jsonl import AppendLog
from pop_actors.storage.layout import Workspace
from pop_actors.storage.refusals import is_no_room
from pop_actors.system.gateway.journal_records import is_settled, records

SYNC_THREADS = 4
TROUBLE_SECONDS = 0.2
TRIES_IN_TROUBLE = 4
"""How often a device that fails is tried, and the pause between: no attempt of a task is to fail for one hiccup."""


class JobJournal:
    """One job's journal, open. Whoever uses it holds it: it stays open while anyone does.

    `append` does not wait for the disk, `durable` does; everybody who waits at the same time shares one fdatasync.
    """

    def __init__(
        self,
        log: AppendLog,
        inode: int,
        settled: dict[str, int],
        spent: float,
        pool: ThreadPoolExecutor,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.place = str(log.path)
        self.inode = inode  # tells this directory from another that got its name
        self.spent = spent  # US dollars, all runs of the job; who books a call adds to it
        self.holders = 0
        self.gone = False
        self._log = log
        self._settled = settled
        self._pool = pool
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing = False
        self._loop = loop

    @classmethod
    def load(cls, path: Path, pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop) -> JobJournal:
        """Open it, in any thread, and find what is settled; reads the whole file. FileNotFoundError where its directory
        is gone."""
        log = AppendLog(path)
        try:
            if not os.path.getsize(path):
                sync_directory(path.parent)
            settled, spent = {}, 0.0
            for offset, record in records(path):
                if is_settled(record):
                    settled[record["key"]] = offset
                    spent += record["costUsd"] or 0.0
            if settled:
                log.sync()  # who wrote them may have been killed before its fsync, and what is replayed has to stay
            return cls(log, os.stat(path).st_ino, settled, spent, pool, loop)
        except BaseException:
            log.close()
            raise

    def settled(self, key: str) -> dict[str, Any] | None:
        """The paid (or billed) record of that key."""
        offset = self._settled.get(key)
        if offset is None:
            return None
        record = self._log.read_line(offset)
        if not isinstance(record, dict):
            raise Damaged(f"{self._log.path}: no record at byte {offset}")
        return record

    def __contains__(self, key: str) -> bool:
        """Whether that call is settled."""
        return key in self._settled

    def append(self, record: dict[str, Any]) -> int:
        """Write a record; where it begins. CallFailed disk_full where there is no room for it now, else journal."""
        try:
            return self._log.append([record])
        except OSError as error:
            raise self._refused(error) from None

    async def settle(self, key: str, offset: int) -> None:
        """Return when the settled record that begins there is on disk, to be found by its key. CallFailed as `append`:
        it may be called again."""
        await self._durable()
        self._settled[key] = offset

    async def _durable(self) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(done)
        if not self._syncing:
            self._syncing = True
            self._loop.call_soon(self._sync)  # after whoever else is about to write in this turn of the loop
        await done

    def _sync(self) -> None:
        """Begin a sync for all who wait; those who come while it runs wait for the next one, begun when it ends."""
        waiting, self._waiting = [done for done in self._waiting if not done.done()], []
        self._syncing = bool(waiting)
        if waiting:
            self._pool.submit(self._sync_for, waiting)

    def _sync_for(self, waiting: list[asyncio.Future[None]]) -> None:
        """In a thread of the pool."""
        error: BaseException | None = None
        try:
            self._log.sync()
        except BaseException as caught:  # noqa: BLE001  (whatever it is, those who wait hear of it)
            error = caught
        self._loop.call_soon_threadsafe(self._synced, waiting, error)

    def _synced(self, waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
        for done in waiting:
            if done.done():
                continue  # it stopped waiting
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(self._refused(error))
        self._sync()

    def _refused(self, error: BaseException) -> CallFailed:
        code = DISK_FULL if is_no_room(error) else "journal"
        return CallFailed(code, f"{self._log.path} could not be written: {error}; see to the disk")

    def close(self) -> None:
        self._log.close()

    def __repr__(self) -> str:
        return f"JobJournal({len(self._settled)} settled, {self.holders} holders, {self._log!r})"


class Journals:
    """The open journals by job. Used by one event loop."""

    def __init__(self, workspace: Workspace) -> None:
        self.full_until = 0.0
        """Of the loop's time: until then nothing is bought, since there was no room to write down that it was sent."""
        self._workspace = workspace
        self._open: dict[str, JobJournal] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="gateway-journal")

    def refuse_while_full(self, now: float) -> None:
        """CallFailed disk_full where there was no room a moment ago."""
        if now < self.full_until:
            raise CallFailed(DISK_FULL, "there was no room for the journal a moment ago")

    def is_open(self, job_id: str) -> bool:
        """Whether `hold` need not wait for the disk."""
        return job_id in self._open

    async def hold(self, job_id: str) -> JobJournal:
        """The journal of a job in current/, kept open until `release`. CallFailed cancelled where it is not, disk_full
        where there is no room for it now, journal where the device keeps failing."""
        for left in reversed(range(TRIES_IN_TROUBLE)):
            try:
                return await self._hold(job_id)
            except CallFailed as failure:
                if failure.code != "journal" or not left:
                    raise
                await asyncio.sleep(TROUBLE_SECONDS)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _hold(self, job_id: str) -> JobJournal:
        while (journal := self._open.get(job_id)) is None or journal.inode != _inode(journal.place):
            await self._load(job_id, self._workspace.job(job_id).calls)
        journal.holders += 1
        journal.gone = False
        return journal

    def release(self, journal: JobJournal) -> None:
        """Done with it; what nobody holds and no job needs is closed."""
        journal.holders -= 1
        if journal.gone:
            self._close_if_free(journal)

    def drop(self, job_id: str) -> None:
        """The job's process ended: close and forget the journal once the last call is written, unless it comes back."""
        journal = self._open.get(job_id)
        if journal is not None:
            journal.gone = True
            self._close_if_free(journal)

    def close(self) -> None:
        """Close all of them. Only when no call is under way."""
        for job_id in list(self._open):
            self.drop(job_id)
        self._pool.shutdown(wait=True)

    async def _load(self, job_id: str, path: Path) -> None:
        loading = self._loading.get(job_id)
        if loading is None:
            loading = self._loading[job_id] = asyncio.create_task(self._read(job_id, path))
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, whoever still waits
        try:
            await asyncio.shield(loading)
        except (FileNotFoundError, NotADirectoryError):
            raise CallFailed("cancelled", f"job {job_id} has no directory in current/: it ended or was moved") from None
        except OSError as error:
            code = DISK_FULL if is_no_room(error) else "journal"
            raise CallFailed(code, f"{path} could not be opened: {error}") from None

    async def _read(self, job_id: str, path: Path) -> None:
        """Open it, and have it found before this is done: who awaits what is done already goes on without a turn of
        the loop, so nothing may be left to a callback."""
        try:
            loop = asyncio.get_running_loop()
            journal = await loop.run_in_executor(self._pool, JobJournal.load, path, self._pool, loop)
        finally:
            del self._loading[job_id]
        self.drop(job_id)  # of another directory that had this name
        self._open[job_id] = journal

    def _close_if_free(self, journal: JobJournal) -> None:
        if journal.holders:
            return
        journal.close()
        self._open = {job_id: kept for job_id, kept in self._open.items() if kept is not journal}


def _inode(path: str) -> int:
    """-1 where there is no such file."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1
