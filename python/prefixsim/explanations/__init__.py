"""Where every prompt token went: hit, or lost, and why."""

from prefixsim.explanations.classes import CLASSES, MEANINGS
from prefixsim.explanations.waterfall import Waterfall, waterfall

__all__ = ["CLASSES", "MEANINGS", "Waterfall", "waterfall"]
