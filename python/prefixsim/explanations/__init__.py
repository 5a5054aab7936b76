"""Where every prompt token went: hit, or lost, and why."""

from prefixsim.explanations.waterfall import CLASSES, MEANINGS, Waterfall, waterfall

__all__ = ["CLASSES", "MEANINGS", "Waterfall", "waterfall"]
