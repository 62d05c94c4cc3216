"""The gateway: every LLM call of every job, journaled before it is used, within each provider's limits."""

from pop_actors.system.gateway.actor import GatewayActor
from pop_actors.system.gateway.gateway import Gateway
from pop_actors.system.gateway.journal import paid_calls
from pop_actors.system.gateway.messages import GatewayView, JobGone, SetLimits

__all__ = ["Gateway", "GatewayActor", "GatewayView", "JobGone", "SetLimits", "paid_calls"]
