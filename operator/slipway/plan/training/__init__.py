"""TrainingJob -> attempts of torchrun, and what became of them."""

from slipway.plan.training.planner import plan_training

__all__ = ["plan_training"]
