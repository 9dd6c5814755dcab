"""The chart of a search bench: one page as HTML that opens without a network, and the same as PNG.

Each of the two comparisons is a column of its own, so that they are never mixed: the curves with their fits, what the
fits leave over, and what each strategy needs for each share of the problems. Tokens are on a log axis, the same for all
three. Strategies differ by colour (those of Okabe and Ito, which colour-blind readers tell apart) and by shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
WIDTH = 560
TITLES = {
    "coverage": ("With a verifier: coverage", "share of problems with a right leaf"),
    "accuracy": ("Without a verifier: accuracy of the selected answer", "share of problems answered right"),
}

Panel = alt.LayerChart | alt.FacetChart
Row = dict[str, Any]
Comparison = Mapping[str, Any]
"""As `pipelines.bench` tells one of the two."""


def html(table: Mapping[str, Any]) -> bytes:
    """A page with everything it needs inside."""
    page = vl_convert.vegalite_to_html(json.dumps(specification(table)), bundle=True)
    return page.replace("<head>", "<head><title>factory bench search</title>", 1).encode()


def png(table: Mapping[str, Any]) -> bytes:
    """The same, at twice the size of the page."""
    return bytes(vl_convert.vegalite_to_png(json.dumps(specification(table)), scale=2.0, allowed_base_urls=[]))


def specification(table: Mapping[str, Any]) -> dict[str, Any]:
    """In Vega-Lite. `table`: as `pipelines.bench.figures` gives it."""
    columns = [_column(table, name) for name in TITLES if table["curves"][name]["strategies"]]
    chart = alt.hconcat(*columns, spacing=40).resolve_scale(color="independent", shape="independent")
    title = alt.TitleParams(
        f"Search on {table['problems']} problems",
        subtitle=[
            "Points: measured, with 95% intervals over problems. Dashed: the log-linear fit up to saturation.",
            "Ring: saturates, from here on a doubling may add nothing. Bar below: from here on doubling does not pay.",
        ],
        anchor="start",
        fontSize=18,
        subtitleFontSize=12,
        subtitleColor="#444444",
        offset=18,
    )
    found: dict[str, Any] = chart.properties(title=title, padding=16).configure_view(stroke="#DDDDDD").to_dict()
    return found


def _column(table: Mapping[str, Any], name: str) -> alt.VConcatChart:
    comparison = table["curves"][name]
    everywhere = [one for each in TITLES for one in table["curves"][each]["strategies"]]
    looks, x = _looks(list(comparison["strategies"]), everywhere), _tokens(comparison)
    parts = [_main(name, comparison, looks, x)]
    if any(one["fit"] for one in comparison["strategies"].values()):
        parts.append(_residuals(comparison, looks, x))
    if comparison["cheapest"]:
        parts.append(_cheapest(comparison, looks, x))
    found: alt.VConcatChart = alt.vconcat(*parts, spacing=22).resolve_scale(color="shared", shape="shared")
    return found


def _looks(names: Sequence[str], everywhere: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """A colour and a shape for each name, of its own in the whole chart: after the last colour they begin again, with
    other shapes."""
    places = [everywhere.index(name) for name in names]
    colours = [COLOURS[place % len(COLOURS)] for place in places]
    shapes = [SHAPES[(place + place // len(COLOURS)) % len(SHAPES)] for place in places]
    legend = alt.Legend(title=None, orient="right", labelLimit=260, symbolSize=90, symbolOpacity=1)
    return (
        alt.Color("strategy:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        alt.Shape("strategy:N", scale=alt.Scale(domain=names, range=shapes), legend=legend),
    )


def _tokens(comparison: Comparison) -> alt.X:
    """The log axis that a column shares."""
    tokens = [max(1.0, one["tokens"]) for curve in comparison["strategies"].values() for one in curve["points"]]
    low, high = min(tokens) / 1.25, max(tokens) * 1.25
    return alt.X(
        "tokens:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=_ticks(low, high), format="~s", grid=True, gridOpacity=0.5),
        title="mean generated tokens per problem (log axis)",
    )


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten; where those are few, every digit."""
    few, many = (_multiples(steps, low, high) for steps in ((1, 2, 5), range(1, 10)))
    return few if len(few) > 4 else many


def _multiples(steps: Iterable[int], low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = list(steps)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def _main(name: str, comparison: Comparison, looks: tuple[alt.Color, alt.Shape], x: alt.X) -> Panel:
    colour, shape = looks
    title, says = TITLES[name]
    rows = list(_points(comparison["strategies"]))
    top = min(1.0, 1.06 * max(row["high"] for row in rows))
    y = alt.Y(
        "value:Q", title=says, scale=alt.Scale(domain=[0, max(top, 0.1)], nice=False), axis=alt.Axis(format=".0%")
    )
    base = _chart(rows).encode(x=x, color=colour)
    says_all = [alt.Tooltip(f"{key}:N") for key in ("strategy", "budget", "tokens", "value", "low", "high")]
    layers = [
        base.mark_line(strokeWidth=1.2, opacity=0.45).encode(y=y),
        base.mark_rule(strokeWidth=1.4, opacity=0.7).encode(y=alt.Y("low:Q"), y2="high:Q"),
        _chart(_fits(comparison["strategies"]))
        .mark_line(strokeDash=[5, 4], strokeWidth=1.4)
        .encode(x=x, y=y, color=colour),
        _marked(rows, "saturates").mark_point(size=260, filled=False, strokeWidth=1.6).encode(x=x, y=y, color=colour),
        _marked(rows, "stops paying")
        .mark_point(shape="stroke", size=300, strokeWidth=3, yOffset=13)
        .encode(x=x, y=y, color=colour),
        base.mark_point(size=70, filled=True, opacity=1).encode(y=y, shape=shape, tooltip=says_all),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=340, title=_title(title))


def _residuals(comparison: Comparison, looks: tuple[alt.Color, alt.Shape], x: alt.X) -> Panel:
    colour, shape = looks
    rows = [row for row in _points(comparison["strategies"]) if row["residual"] is not None]
    axis = alt.Axis(format="+.2~%", tickCount=5)
    y = alt.Y("residual:Q", title="measured − fit", axis=axis, scale=alt.Scale(padding=10))
    base = _chart(rows).encode(x=x, y=y, color=colour, shape=shape)
    layers = [
        alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color="#888888").encode(y="zero:Q"),
        base.transform_filter("datum.used").mark_point(size=55, filled=True, opacity=1),
        base.transform_filter("!datum.used").mark_point(size=55, filled=False, opacity=1),
    ]
    title = "What the fits leave over (hollow: beyond saturation, not fitted)"
    return alt.layer(*layers).properties(width=WIDTH, height=110, title=_title(title))


def _cheapest(comparison: Comparison, looks: tuple[alt.Color, alt.Shape], x: alt.X) -> Panel:
    colour, shape = looks
    rows = list(_reached(comparison["cheapest"]))
    y = alt.Y(
        "level:O", title="to reach", sort="descending", axis=alt.Axis(labelExpr="format(datum.value, '.0%')", grid=True)
    )
    base = _chart(rows).encode(x=x, y=y, color=colour, shape=shape)
    cheapest = base.transform_filter("datum.cheapest")
    layers = [
        base.transform_filter("!datum.cheapest").mark_point(size=36, filled=False, opacity=0.6),
        cheapest.mark_point(size=80, filled=True, opacity=1),
        cheapest.mark_text(align="left", fontSize=11).encode(x=alt.value(WIDTH + 10), text="strategy:N"),
    ]
    title = "What each share of problems takes; filled: the cheapest strategy"
    return alt.layer(*layers).properties(
        width=WIDTH, height=22 * max(3, len(comparison["cheapest"])), title=_title(title)
    )


def _title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", fontSize=13)


def _chart(rows: Sequence[Row]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _marked(rows: Iterable[Row], mark: str) -> alt.Chart:
    return _chart([row for row in rows if row[mark]])


def _points(strategies: Mapping[str, Any]) -> Iterable[Row]:
    for strategy, curve in strategies.items():
        for place, point in enumerate(curve["points"]):
            value, low, high = point["reached"]
            fit = curve["fit"]
            yield {
                "strategy": strategy,
                "budget": point["budget"],
                "tokens": max(1.0, point["tokens"]),
                "value": value,
                "low": low,
                "high": high,
                "residual": None if fit is None else fit["residuals"][place],
                "used": fit is not None and place < fit["points"],
                "saturates": point["budget"] == curve["saturates_at"],
                "stops paying": point["budget"] == curve["stops_paying_at"],
            }


def _fits(strategies: Mapping[str, Any]) -> list[Row]:
    """Both ends of each line."""
    rows = []
    for strategy, curve in strategies.items():
        if fit := curve["fit"]:
            for end in (curve["points"][0], curve["points"][fit["points"] - 1]):
                value = fit["intercept"] + fit["per_doubling"][0] * math.log2(max(1.0, end["tokens"]))
                rows.append(
                    {"strategy": strategy, "tokens": max(1.0, end["tokens"]), "value": min(1.0, max(0.0, value))}
                )
    return rows


def _reached(levels: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for one in levels:
        for strategy, tokens in one["tokens"].items():
            cheapest = strategy == one["cheapest"]
            yield {"level": one["level"], "strategy": strategy, "tokens": tokens, "cheapest": cheapest}
