"""The actor framework: one address and one mailbox for an actor, be it a thread here or a process of its own.

A guide of one page is docs/actors.md; `ActorSystem` is the way in for a program that has nothing else of this package.
"""

from pop_actors.actors.actor import Actor, Ping, thread
from pop_actors.actors.child import (
    Beat,
    ChildSpec,
    Exited,
    Launch,
    Restart,
    RunningChild,
    Started,
    Starter,
    StartFailed,
)
from pop_actors.actors.commands import SupervisorRef
from pop_actors.actors.exits import NORMAL, SHUTDOWN, ExitReason
from pop_actors.actors.link import Question
from pop_actors.actors.policy import AutoShutdown, Policy, Strategy, check_child_specs
from pop_actors.actors.process_actor import ProcessActor, ProcessContext, Ref
from pop_actors.actors.process_child import process
from pop_actors.actors.registry import Endpoint, LocalRef, Mailbox, Registry
from pop_actors.actors.reports import Report
from pop_actors.actors.restart_budget import Backoff
from pop_actors.actors.supervision_messages import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from pop_actors.actors.supervisor import DynamicSupervisor, Supervisor, supervisor
from pop_actors.actors.system import ActorSystem
from pop_actors.actors.timers import Timer, Timers
from pop_actors.core.messages import Json, Stop
from pop_actors.errors import ActorError, AnswerFailed, AskTimeout, Refused, StartRefused, Unavailable

__all__ = [
    "NORMAL",
    "SHUTDOWN",
    "Actor",
    "ActorError",
    "ActorSystem",
    "AnswerFailed",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "Beat",
    "ChildSpec",
    "CountChildren",
    "DeleteChild",
    "DynamicSupervisor",
    "Endpoint",
    "ExitReason",
    "Exited",
    "GetChildSpec",
    "Json",
    "Launch",
    "LocalRef",
    "Mailbox",
    "Ping",
    "Policy",
    "ProcessActor",
    "ProcessContext",
    "Question",
    "Ref",
    "Refused",
    "Registry",
    "Report",
    "Restart",
    "RestartChild",
    "RunningChild",
    "StartChild",
    "StartFailed",
    "StartRefused",
    "Started",
    "Starter",
    "Stop",
    "Strategy",
    "Supervisor",
    "SupervisorRef",
    "TerminateChild",
    "Timer",
    "Timers",
    "Unavailable",
    "WhichChildren",
    "check_child_specs",
    "process",
    "supervisor",
    "thread",
]
