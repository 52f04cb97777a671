"""The preview of a plan: the operator's own planners on an in-memory cluster in which every Job succeeds."""
