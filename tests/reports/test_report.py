"""The HTML report: what is in it, that it needs no network, and that browsers draw it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefixsim
from prefixsim.charts import theme
from prefixsim.cli import main
from prefixsim.errors import InputError
from prefixsim.explanations.lint import lint
from prefixsim.reports.page import report_html, short_labels, write_report
from prefixsim.trace import Codes, Trace
from tests.reports.browser import Browser, find


def traffic(seed: int = 3, requests: int = 600, name: str = "chat") -> Trace:
    """Conversations under shared prompts, of three tenants."""
    rng = np.random.default_rng(seed)
    heads = [rng.integers(0, 9000, 96).tolist() for _ in range(3)]
    prompts, sessions, turns, salts = [], [], [], []
    said: dict[int, list[int]] = {}
    count: dict[int, int] = {}
    for _ in range(requests):
        chat = int(rng.integers(0, requests // 6))
        head = heads[chat % 3]
        said[chat] = said.get(chat, []) + rng.integers(0, 9000, rng.integers(5, 60)).tolist()
        prompts.append([*head, *said[chat]])
        sessions.append(f"chat <{chat}> & co")
        turns.append(count.get(chat, 0))
        count[chat] = turns[-1] + 1
        salts.append(f"tenant {chat % 3}" if chat % 4 else "")
    trace = Trace.from_prompts(
        prompts,
        timestamp=np.sort(rng.random(requests) * 7200).tolist(),
        output_len=rng.integers(1, 300, requests).tolist(),
        session=sessions,
        salt=salts,
        name=name,
    )
    kinds = Codes.from_strings(["support" if i % 2 else "sales" for i in range(requests)])
    return trace.replace(turn=np.array(turns, dtype=np.uint32), category=kinds)


def specs_of(html: str, key: str = "specs") -> dict[str, Any]:
    text = re.search(rf'<script type="application/json" id="{key}">(.*?)</script>', html, re.DOTALL)
    assert text is not None
    found: dict[str, Any] = json.loads(text[1])
    return found


ONE = {"hit-curve", "waterfall", "over-time", "working-set", "block-size", "sharing", "lengths",
       "block-counts", "reuse-gap", "lifetime", "turns"}  # fmt: skip


def test_the_page_of_one_replay() -> None:
    result = prefixsim.replay(traffic(), engine="lru", num_blocks=300)
    html = report_html([result], bytes_per_token=131072)
    specs = specs_of(html)
    assert set(specs) == ONE
    for key in ONE:
        assert f'id="{key}"' in html
        assert f'data-spec="{key}"' in html
    assert "@@" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    body = html[html.index("<main") : html.index("</main>")]
    assert f"{result.summary['token_hit_rate']:.1%}" in body
    assert "chat &lt;" in body and "chat <" not in body  # nothing from a trace is markup
    for section in ("losses", "prefixes", "session", "category", "salt", "configuration"):
        assert f'<section id="{section}">' in html
    # Every figure has words and a table for those who cannot see it.
    assert (
        body.count("<figure") == body.count("<figcaption>") == body.count('role="img"') == len(ONE)
    )
    labels = re.findall(r'role="img" tabindex="0" aria-label="([^"]*)"', body)
    assert all(len(text) > 20 for text in labels)


def test_the_figures_are_valid_vega_lite() -> None:
    import altair as alt

    trace = traffic(requests=300)
    results = [prefixsim.replay(trace, engine="lru", num_blocks=n) for n in (200, 400)]
    for spec in specs_of(report_html(results)).values():
        spec["data"]["values"] = spec["data"]["values"][:2]  # rows are alike, the schema is slow
        alt.Chart.from_dict(spec)
        with pytest.raises(Exception, match="no such mark"):
            alt.Chart.from_dict({**spec, "layer": [{"mark": "no such mark"}]})


def test_the_figures_hold_the_figures() -> None:
    result = prefixsim.replay(traffic(), engine="lru", num_blocks=300)
    specs = specs_of(report_html([result]))
    curve = result.metrics.forest.curve(16)
    points = [row for row in specs["hit-curve"]["data"]["values"] if row["s"] == "LRU"]
    for row in points:
        hits = int(curve.hit_blocks(np.array([row["x"]], np.uint64))[0]) * 16
        assert row["y"] == pytest.approx(hits / result.summary["prompt_tokens"])
    bars = specs["waterfall"]["data"]["values"]
    assert sum(bar["tokens"] for bar in bars) == result.summary["prompt_tokens"]
    assert bars[0]["tokens"] == result.summary["hit_tokens"]
    assert bars[-1]["to"] == pytest.approx(1)
    for before, after in pairwise(bars):
        assert before["to"] == pytest.approx(after["from"])
    sizes = {r["x"]: r["y"] for r in specs["block-size"]["data"]["values"] if r["s"] != "infinite"}
    for size in (8, 32):
        again = prefixsim.replay(
            result.trace, engine="lru", block_size=size, num_blocks=300 * 16 // size
        )
        assert sizes[size] == pytest.approx(again.summary["token_hit_rate"])


def test_the_page_has_the_colours_of_the_theme_and_their_twins_in_the_dark() -> None:
    html = report_html([prefixsim.replay(traffic(requests=200), engine="lru", num_blocks=100)])
    look = specs_of(html, "look")
    assert look == {"config": theme.page_config(), "night": theme.NIGHT}
    drawn = set(re.findall(r'"(#[0-9A-Fa-f]{6})"', json.dumps([specs_of(html), look["config"]])))
    assert drawn <= look["night"].keys() and theme.BLUE in drawn
    assert not look["night"].keys() & set(look["night"].values())


def test_several_replays_are_compared() -> None:
    trace, other = traffic(), traffic(seed=9, name="other")
    results = [prefixsim.replay(trace, num_blocks=n) for n in (200, 400)]
    html = report_html([*results, prefixsim.replay(other, num_blocks=200)])
    assert '<section id="comparison">' in html
    assert short_labels(results) == ["200 blocks", "400 blocks"]
    assert {row["run"] for row in specs_of(html)["waterfall"]["data"]["values"]} == {
        "chat, 200 blocks", "chat, 400 blocks", "other, 200 blocks",
    }  # fmt: skip
    twice = short_labels([results[0], results[0]])
    assert twice == ["chat (1)", "chat (2)"]


def test_lint_and_prefix_text_are_shown() -> None:
    trace = traffic()
    result = prefixsim.replay(trace, num_blocks=200)
    found = lint(result.metrics.forest, lambda ids: " ".join(f"<b>{i}" for i in ids))
    html = report_html([result], decode=lambda ids: "</script><b>hello", lint=[found])
    body = html[html.index("<main") : html.index("</main>")]
    assert "&lt;/script&gt;&lt;b&gt;hello" in body
    assert "Prompt lint" in body


def test_a_million_requests_would_be_as_small() -> None:
    sizes = [
        len(report_html([prefixsim.replay(traffic(requests=n), engine="lru", num_blocks=300)]))
        for n in (300, 6000)
    ]
    assert max(sizes) < 2_000_000
    assert sizes[1] < sizes[0] + 150_000


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    result = prefixsim.replay(traffic(requests=30))
    with pytest.raises(InputError, match="at least one replay"):
        report_html([])
    with pytest.raises(InputError, match="at most 8"):
        report_html([result] * 9)
    with pytest.raises(InputError, match="nothing to report"):
        report_html([prefixsim.replay(Trace.from_prompts([[]]))])
    single = prefixsim.replay(Trace.from_prompts([[1, 2, 3]]))
    assert {"hit-curve", "waterfall"} <= set(specs_of(report_html([single])))
    hashes = prefixsim.replay(Trace.from_prompts([range(64)] * 3), engine="lru")
    assert "reuse-gap" in specs_of(report_html([hashes]))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "t.jsonl", tmp_path / "deep" / "r.html"
    out.parent.mkdir()
    traffic(requests=120).write(path)
    args = ["report", str(path), "-o", str(out), "--num-blocks", "100,200", "--engine", "lru"]
    assert main(args) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert (
        len({row["run"] for row in specs_of(out.read_text())["waterfall"]["data"]["values"]}) == 2
    )
    for wrong in (
        ["--num-blocks", "many"],
        ["--bytes-per-token", "-1"],
        ["--bytes-per-token", "2", "--model-config", "x.json"],
        ["--engine", "magic"],
    ):
        assert main(["report", str(path), "-o", str(out), *wrong]) == 2
        assert capsys.readouterr().err.startswith("prefixsim: ")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find()
    if path is None:
        pytest.skip("no Chromium here")
    with Browser(path, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    result = prefixsim.replay(traffic(), engine="lru", num_blocks=300)
    return write_report([result], path, bytes_per_token=131072)


DRAWN = """[...document.querySelectorAll('.plot')].map(plot => ({
    key: plot.dataset.spec,
    marks: ['line', 'rect', 'area'].map(k => plot.querySelectorAll(`svg g.mark-${k} path`).length)
        .reduce((a, b) => a + b),
    width: plot.querySelector('svg') ? plot.querySelector('svg').getBoundingClientRect().width : 0,
    room: plot.getBoundingClientRect().width,
}))"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_a_browser_draws_every_figure(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.look(width, 900, dark=dark)
    browser.open(page)
    assert browser.run("window.prefixsim.ready") == len(ONE)
    assert browser.complaints() == []
    assert browser.requested() == [page.resolve().as_uri()]
    drawn = browser.run(DRAWN)
    assert {plot["key"] for plot in drawn} == ONE
    for plot in drawn:
        assert plot["marks"] > 0, plot
        assert 0.8 * plot["room"] < plot["width"] <= plot["room"] + 1, plot
    assert browser.run("document.documentElement.scrollWidth") == width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 382
    assert light != dark


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(browser: Browser, page: Path, dark: bool) -> None:
    browser.look(1280, 900, dark=dark)
    browser.open(page)
    browser.run("window.prefixsim.ready")
    paper = browser.run("getComputedStyle(document.querySelector('figure.chart')).backgroundColor")
    for selector in ("h1", "figcaption", "summary", ".card p", "th", "td", "button"):
        colour = browser.run(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(colour, paper) >= 4.5, selector
    labels = browser.run(
        "[...new Set([...document.querySelectorAll('.plot svg text')]"
        ".map(t => getComputedStyle(t).fill))]"
    )
    for colour in labels:
        if contrast(colour, paper) > 1.05:  # halos have the colour of the paper
            assert contrast(colour, paper) >= 4.5, colour


def test_tooltips_and_keys_and_themes(browser: Browser, page: Path) -> None:
    browser.look(1280, 900)
    browser.open(page)
    browser.run("window.prefixsim.ready")
    for key, words in (("waterfall", "served from the cache"), ("hit-curve", "token hit rate")):
        browser.run(f"document.getElementById('{key}').scrollIntoView({{block: 'center'}})")
        box = browser.run(
            f"(() => {{ const mark = document.querySelector('#{key} svg g.mark-rect path, "
            f"#{key} svg g.mark-line path').getBoundingClientRect();"
            "return [mark.x + mark.width / 2, mark.y + mark.height / 2]; })()"
        )
        browser.move(box[0] - 3, box[1])
        browser.move(*box)
        shown = "(document.querySelector('#vg-tooltip-element.visible') || {}).innerText"
        text = next((t for _ in range(40) if (t := browser.run(shown))), "")
        assert words in text
    # By keyboard: the button changes the theme, a table opens.
    modes = []
    browser.run("document.getElementById('theme').focus()")
    for _ in range(3):
        browser.press("Enter", 13, "\r")
        browser.run("window.prefixsim.ready")
        modes.append(browser.run("document.documentElement.dataset.theme || 'auto'"))
    assert modes == ["light", "dark", "auto"]
    browser.run("document.querySelector('#hit-curve summary').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.run("document.querySelector('#hit-curve details').open") is True
    assert browser.run("document.querySelectorAll('#hit-curve tbody tr').length") > 5
    assert browser.complaints() == []


def test_charts_zoom(browser: Browser, page: Path) -> None:
    browser.look(1280, 900)
    browser.open(page)
    browser.run("window.prefixsim.ready")
    browser.run("document.getElementById('over-time').scrollIntoView({block: 'center'})")
    ticks = (
        "[...document.querySelectorAll('#over-time svg .role-axis-label text')]"
        ".map(t => t.textContent).join()"
    )
    before = browser.run(ticks)
    x, y = browser.run(
        "(() => { const b = document.querySelector('#over-time .plot').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    for shift in (0, 8):
        browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0,
                     deltaY=-400, modifiers=shift)  # fmt: skip
        browser.run("new Promise(done => setTimeout(done, 300))")
        if not shift:
            assert browser.run(ticks) == before  # the page scrolls
            browser.run("document.getElementById('over-time').scrollIntoView({block: 'center'})")
    assert browser.run(ticks) != before
