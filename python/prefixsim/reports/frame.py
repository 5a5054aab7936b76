"""The frame of every page: sections, figures and tables in one file that needs no network."""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from importlib.resources import files

from prefixsim._core import __version__
from prefixsim._extras import require
from prefixsim._json import JsonObject, plain
from prefixsim.charts import theme
from prefixsim.reports.figures import Figure
from prefixsim.table import HtmlLook, Table, html_table

__all__ = ["drawn", "framed", "section", "tabled"]


def framed(title: str, subtitle: str, body: str, specs: JsonObject) -> str:
    """Return a whole page; ``specs`` are those of its figures, by key."""
    assets = files("prefixsim.reports") / "assets"
    text = {
        name: (assets / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "page.js")
    }
    look = {"config": theme.page_config(), "night": theme.NIGHT}
    parts = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "version": escape(__version__),
        "css": text["page.css"],
        "specs": _embedded(specs),
        "look": _embedded(look),
        "body": body,
        "script": text["page.js"],
        "vega": _vega(),
    }
    # In one pass: what is filled in may itself look like a place to fill.
    return re.sub(r"@@(\w+)@@", lambda place: parts[place[1]], text["page.html"])


def _embedded(value: JsonObject) -> str:
    """Write JSON in which nothing can close the element that it stands in."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    vlc = require("vl_convert", extra="report")
    bundle: str = vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def section(title: str, content: str, name: str) -> str:
    """Return a part of a page under a heading."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>'


def drawn(figure: Figure) -> str:
    """Return a figure with its words and its data."""
    key, wide = escape(figure.key), " wide" if figure.wide else ""
    return (
        f'<figure class="chart{wide}" id="{key}" aria-labelledby="{key}-title">'
        f'<h3 id="{key}-title">{escape(figure.title)}</h3>'
        f'<div class="plot" data-spec="{key}" role="img" tabindex="0" '
        f'aria-label="{escape(figure.title)}. {escape(figure.says)}"></div>'
        f"<figcaption>{escape(figure.says)}</figcaption>"
        f"<details><summary>Data</summary>{tabled(figure.table)}</details></figure>"
    )


def tabled(table: Table) -> str:
    """Return a table."""
    return f'<div class="scroll" tabindex="0">{html_table(table, HtmlLook())}</div>'
