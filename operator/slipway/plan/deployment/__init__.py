"""The planner of ModelDeployments: steps, gate, Triton Deployments, traffic, revisions, status."""

from slipway.plan.deployment.planner import plan_deployment

__all__ = ["plan_deployment"]
