"""The actor framework: one address and one mailbox for an actor, be it a thread here or a process of its own."""

from pop_actors.actors.actor import Actor, Ping, thread
from pop_actors.actors.child import (
    Beat,
    ChildSpec,
    Exited,
    ExitReason,
    Launch,
    RunningChild,
    Started,
    Starter,
    StartFailed,
)
from pop_actors.actors.registry import Endpoint, LocalRef, Mailbox, Registry
from pop_actors.actors.restart_budget import Backoff
from pop_actors.actors.supervision_messages import (
    CountChildren,
    DeleteChild,
    Policy,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from pop_actors.actors.supervisor import Supervisor, supervisor
from pop_actors.actors.timers import Timer, Timers

__all__ = [
    "Actor",
    "Backoff",
    "Beat",
    "ChildSpec",
    "CountChildren",
    "DeleteChild",
    "Endpoint",
    "ExitReason",
    "Exited",
    "Launch",
    "LocalRef",
    "Mailbox",
    "Ping",
    "Policy",
    "Registry",
    "RestartChild",
    "RunningChild",
    "StartChild",
    "StartFailed",
    "Started",
    "Starter",
    "Supervisor",
    "TerminateChild",
    "Timer",
    "Timers",
    "WhichChildren",
    "supervisor",
    "thread",
]
