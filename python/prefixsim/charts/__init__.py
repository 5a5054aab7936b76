"""Charts: aggregated in NumPy, drawn by Altair, written as PNG and SVG without a browser.

This package imports Altair only inside the functions that draw.
"""

from prefixsim.charts import theme
from prefixsim.charts._save import ChartFormat, save, save_as

__all__ = ["ChartFormat", "save", "save_as", "theme"]
