"""Steps: requests of owners, the planner of a Step, and the results for the owner."""

from slipway.plan.steps.planner import plan_step

__all__ = ["plan_step"]
