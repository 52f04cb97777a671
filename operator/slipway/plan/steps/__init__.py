"""Step: how an owner asks for one, how it is carried out, and how its result comes back."""

from slipway.plan.steps.planner import plan_step

__all__ = ["plan_step"]
