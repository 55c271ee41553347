"""From a job's prompts to the order in which to run them, and what it will cost."""

from __future__ import annotations

from blendserve.planning.plan import Plan, plan
from blendserve.planning.report import PlanReport
from blendserve.planning.shard import Shard
from blendserve.planning.tree_view import TreeView

__all__ = ["Plan", "PlanReport", "Shard", "TreeView", "plan"]
