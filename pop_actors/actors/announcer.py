"""What others hear of a supervisor's children: the log, the reports to its listener, the observations in its feed.

The supervisor calls it with each effect that is news. It decides nothing, and a listener that fails hurts nobody.
"""

from __future__ import annotations

import logging

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.exits import ExitReason
from pop_actors.actors.reports import Report, ReportKind, ReportListener
from pop_actors.core.observations import ActorRestarted, ActorUp, Feed

_log = logging.getLogger(__name__)


class Announcer:
    """For one supervisor, in its thread."""

    def __init__(self, feed: Feed, listener: ReportListener | None, label: str | None) -> None:
        """`label`, where there is one, is what observations call all its children by."""
        self._address = ""
        self._feed = feed
        self._listener = listener
        self._label = label

    def speak_for(self, address: str, parents_listener: ReportListener) -> None:
        """The supervisor there, which begins now; its parent's listener hears where it was given none."""
        self._address = address
        self._listener = self._listener or parents_listener

    def starting(self, effect: m.Spawn) -> None:
        """Only where it was there before."""
        if effect.because is not None:
            _log.info("%s: starting %s again (%s)", self._address, effect.spec.id, effect.because)
            self._feed.publish(ActorRestarted(self._label or effect.spec.id, effect.because))

    def up(self, effect: m.Ready) -> None:
        """It has started."""
        self._is_up(effect.spec.id, up=True)
        self._report("progress", effect)

    def gone(self, effect: m.Gone) -> None:
        """It is gone, or never got ready."""
        if effect.reason.is_abnormal:
            _log.warning("%s: %s (epoch %d) ended: %s", self._address, effect.spec.id, effect.epoch, effect.reason)
        self._is_up(effect.spec.id, up=False)
        if effect.report_kind is not None:
            self._report(effect.report_kind, effect, effect.reason, will_restart=effect.will_restart)

    def gave_up(self, effect: m.GaveUp) -> None:
        """It failed too often."""
        _log.error("%s: giving up on %s: %s", self._address, effect.spec.id, effect.reason)
        self._report("gave_up", effect, effect.reason)

    def tell(self, report: Report) -> None:
        """Also for the supervisors below that have no listener of their own, in their threads."""
        if self._listener is None:
            return
        try:
            self._listener(report)
        except Exception:  # noqa: BLE001 - who only listens must not end what it listens to
            _log.exception("%s: the listener failed on a report", self._address)

    def _is_up(self, child_id: str, *, up: bool) -> None:
        if self._label is None:
            self._feed.publish(ActorUp(child_id, up=up))

    def _report(
        self,
        kind: ReportKind,
        effect: m.Ready | m.Gone | m.GaveUp,
        reason: ExitReason | None = None,
        *,
        will_restart: bool = False,
    ) -> None:
        self.tell(Report(kind, self._address, effect.spec.id, effect.epoch, reason, will_restart))
