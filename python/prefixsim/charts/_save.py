"""Charts as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from prefixsim._extras import require
from prefixsim._files import atomic_write
from prefixsim._json import plain

if TYPE_CHECKING:
    import altair as alt

__all__ = ["ChartFormat", "save", "save_as"]

ChartFormat = Literal["png", "svg", "html", "json"]

PNG_SCALE = 2.0
"""Pixels of a PNG file per pixel of the chart."""

_LESS_THAN = "\ue000lt\ue001"  # private characters, of no label


def save(
    chart: alt.TopLevelMixin,
    path: str | Path,
    formats: Sequence[ChartFormat] = ("png", "svg"),
) -> list[Path]:
    """Write a chart to ``path`` plus the ending of each format, and return the files.

    Parameters
    ----------
    chart : altair chart
    path : str or Path
        Without the ending.
    formats : sequence of {"png", "svg", "html", "json"}, optional
        ``html`` is interactive and needs no network; ``json`` is the Vega-Lite specification.
    """
    alt = require("altair", extra="report")
    vlc = require("vl_convert", extra="report")
    spec = json.dumps(plain(chart.to_dict()))
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    written = []
    for kind in formats:
        target = Path(f"{path}.{kind}")
        data: str | bytes
        if kind == "png":
            data = vlc.vegalite_to_png(spec, vl_version=version, scale=PNG_SCALE)
        elif kind == "svg":
            data = vlc.vegalite_to_svg(spec, vl_version=version)
        elif kind == "html":
            masked = spec.replace("<", _LESS_THAN)  # a label must not end the page's script
            page: str = vlc.vegalite_to_html(masked, vl_version=version, bundle=True)
            data = page.replace(_LESS_THAN, "\\u003c")
        else:
            data = spec
        atomic_write(target, data)
        written.append(target)
    return written


def save_as(chart: alt.TopLevelMixin, path: Path) -> None:
    """Write a chart to one file, in the format that its ending names."""
    save(chart, path.with_suffix(""), [cast("ChartFormat", path.suffix[1:])])
