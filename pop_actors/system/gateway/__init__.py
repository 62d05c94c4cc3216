"""The gateway: every LLM call of every job, journaled before it is used, within each provider's limits."""

from pop_actors.system.gateway.actor import GatewayActor
from pop_actors.system.gateway.gateway import Gateway
from pop_actors.system.gateway.journal_records import paid_calls
from pop_actors.system.gateway.messages import BudgetView, GatewayView, JobGone, Probe, SetLimits
from pop_actors.system.gateway.prompt_log import PromptLog

__all__ = [
    "BudgetView", "Gateway", "GatewayActor", "GatewayView", "JobGone", "Probe", "PromptLog", "SetLimits", "paid_calls",
]  # fmt: skip
