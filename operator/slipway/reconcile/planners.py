"""The planners by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipway.api.kinds import ARTIFACT_STORE, MODEL_DEPLOYMENT, STEP, TRAINING_JOB, Kind
from slipway.plan.deployment import plan_deployment
from slipway.plan.steps import plan_step
from slipway.plan.store import plan_store
from slipway.plan.training import plan_training

if TYPE_CHECKING:  # commands plan without importing the loop and its logging
    from slipway.reconcile.loop import Planner

PLANNERS: Mapping[Kind, Planner] = {
    TRAINING_JOB: plan_training,
    MODEL_DEPLOYMENT: plan_deployment,
    ARTIFACT_STORE: plan_store,
    STEP: plan_step,
}
