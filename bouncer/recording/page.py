"""The result of a replay as one page: a summary, and a timeline for each difference. It needs no network."""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from bouncer.dates import rfc3339
from bouncer.recording.comparison import Comparison, Difference, Next, Timeline

WORDS = {
    Next.REGRET: "spoke to a person afterwards",
    Next.HARM: "a person would have been left without an agent",
    Next.UNKNOWN: "the recording can't tell what happened next",
    Next.POINTLESS: "left by itself within seconds",
    Next.RIGHT: "did nothing for a person any more",
}
COLOURS = {
    "here": "#e3e6ea",
    "initializing": "#c9b8d9",
    "idle": "#d5dde5",
    "listening": "#bcd4ea",
    "thinking": "#f1cf7a",
    "speaking": "#a5d6a0",
    "speech": "#2b7a3d",
    "sent": "#5b6470",
    "evicted, as recorded": "#3d4451",
    "would be evicted": "#c62f2f",
    "held back": "#d97706",
    "reported": "#7c5ab8",
    "notice given": "#2f6fb2",
}
SYMBOLS = {
    "evicted, as recorded": "x",
    "would be evicted": "x",
    "held back": "diamond",
    "reported": "triangle-up",
    "notice given": "circle-open",
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2430; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; list-style: none; }
.figures li { border: 1px solid #dfe3e8; border-radius: .5rem; padding: .6rem 1rem; min-width: 6.5rem; }
.figures b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.bad b { color: #c62f2f; }
table { border-collapse: collapse; } th, td { padding: .25rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 1px solid #b9c0c9; font-weight: 600; } tbody td { border-bottom: 1px solid #eceff2; }
article { border-top: 1px solid #dfe3e8; margin-top: 1.5rem; padding-top: .75rem; }
article h3 { font-size: 1rem; margin: 0; } article p { margin: .2rem 0; color: #4a5261; }
.tag { border-radius: .3rem; padding: .1rem .45rem; font-size: .85rem; background: #eceff2; margin-right: .4rem; }
.regret, .harm { background: #fbe3e3; color: #9c1f1f; } .right { background: #e2f2e2; color: #1f6a2e; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""
SCRIPT = """
const draw = (place) => {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false, responsive: true});
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}, {rootMargin: "1500px"});
document.querySelectorAll("[data-figure]").forEach((place) => seen.observe(place));
"""


def page(comparison: Comparison, configuration: str) -> str:
    """Return the page as HTML. `configuration` is what was compared, as it was given."""
    shown = comparison.differences()
    with_timeline = [each for each in shown if each.timeline]
    others = len(shown) - len(with_timeline)
    new, shifted = {id(each) for each in comparison.new}, {id(each) for each in comparison.shifted}
    kinds = ["new" if id(each) in new else "shifted" if id(each) in shifted else "gone" for each in with_timeline]
    articles = [_article(place, *pair) for place, pair in enumerate(zip(with_timeline, kinds, strict=True))]
    more = f"<p>And {others} more, without a timeline: <code>--json</code> has them all.</p>"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width">
<title>Bouncer: another configuration</title>
<style>{STYLE}</style>
<h1>What another configuration would have done</h1>
<p><code>{_text(configuration)}</code></p>
{_figures(comparison)}
<h2>By policy</h2>
{_policies(comparison)}
<h2>Differences, regrets and harms first</h2>
{"".join(articles) or "<p>None.</p>"}
{more if others else ""}
<script>{get_plotlyjs()}</script>
<script>{SCRIPT}</script>
</html>
"""


def _text(text: str) -> str:
    return html.escape(text)


def _figures(comparison: Comparison) -> str:
    total = comparison.total
    figures = [
        (comparison.rooms, "rooms", ""),
        (f"{comparison.room_hours:.1f}", "hours", ""),
        (total.new, "new", ""),
        (total.gone, "gone", ""),
        (total.shifted, "shifted", ""),
        (total.unchanged, "unchanged", ""),
        (total.regrets, "regrets", "bad" if total.regrets else ""),
        (total.harms, "harms", "bad" if total.harms else ""),
        (total.unknown, "unknown", ""),
        (f"{total.agent_minutes_saved:.1f}", "agent-minutes saved", ""),
    ]
    return (
        f'<ul class="figures">{"".join(f"<li class={kind!r}><b>{n}</b>{what}</li>" for n, what, kind in figures)}</ul>'
    )


def _policies(comparison: Comparison) -> str:
    names = ("new", "gone", "shifted", "unchanged", "regrets", "harms", "unknown")
    head = "".join(f"<th>{each}</th>" for each in ("policy", *names, "minutes saved"))
    rows = [
        f"<tr><td>{_text(policy)}</td>"
        + "".join(f"<td>{getattr(tally, name)}</td>" for name in names)
        + f"<td>{tally.agent_minutes_saved:.1f}</td></tr>"
        for policy, tally in sorted(comparison.by_policy.items())
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _article(place: int, each: Difference, kind: str) -> str:
    what = ", and ".join(WORDS[what] for what in (each.next, *each.also))
    otherwise = f"; otherwise at {rfc3339(each.other_at)}" if each.other_at else ""
    saved = "" if each.minutes is None else f", {each.minutes:.1f} agent-minutes"
    figure = json.dumps(_figure(each.timeline), ensure_ascii=True).replace("<", "\\u003c") if each.timeline else ""
    plot = (
        f'<div data-figure="figure{place}" style="height: {_height(each.timeline)}px"></div>'
        f'<script type="application/json" id="figure{place}">{figure}</script>'
        if each.timeline
        else ""
    )
    return f"""<article>
<h3><span class="tag {each.next}">{each.next}</span>{_text(each.agent_name or each.identity)}: {kind},
 {_text(each.policy)}</h3>
<p>{f"It {_text(each.reason)}. " if each.reason else ""}What happened next: {_text(what)}{saved}.</p>
<p>{rfc3339(each.at)}{otherwise}, room <code>{_text(each.room)}</code>, <code>{_text(each.sid)}</code>,
 <code>{_text(each.file)}</code></p>
{plot}
</article>
"""


def _height(timeline: Timeline) -> int:
    return 130 + 42 * len(timeline.rows)


def _figure(timeline: Timeline) -> dict[str, Any]:
    """Return a timeline as a figure of plotly: a row for each participant, seconds from the difference across."""
    names = [f"<b>{_text(row.name)}</b>" if row.subject else _text(row.name) for row in timeline.rows]
    names = [f"{name} ({row.role})" for name, row in zip(names, timeline.rows, strict=True)]
    traces = [_bars("here", 0.8, names, [row.here for row in timeline.rows])]
    for state in ("initializing", "idle", "listening", "thinking", "speaking"):
        spans = [[(a, b) for a, b, name in row.states if name == state] for row in timeline.rows]
        traces.append(_bars(state, 0.55, names, spans))
    traces.append(_bars("speech", 0.28, names, [row.speech for row in timeline.rows]))
    sent = [(at, place, "sent something") for place, row in enumerate(timeline.rows) for at in row.acts]
    traces.append(_dots("sent", "line-ns-open", names, sent))
    for kind, symbol in SYMBOLS.items():
        marks = [(mark.at, mark.row, mark.what) for mark in timeline.marks if mark.what.startswith(kind)]
        traces.append(_dots(kind, symbol, names, marks))
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 40},
        "plot_bgcolor": "white",
        "xaxis": {
            "title": {"text": "seconds from the difference"},
            "range": [timeline.begins, timeline.ends],
            "gridcolor": "#eceff2",
            "zerolinecolor": "#c62f2f",
        },
        "yaxis": {"categoryorder": "array", "categoryarray": names[::-1], "automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
    }
    return {"data": [trace for trace in traces if trace["y"]], "layout": layout}


def _bars(
    name: str, width: float, names: Sequence[str], spans: Sequence[Iterable[tuple[float, float]]]
) -> dict[str, Any]:
    found = [(row, a, b) for row, some in zip(names, spans, strict=True) for a, b in some]
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [row for row, _, _ in found],
        "base": [round(a, 3) for _, a, _ in found],
        "x": [round(b - a, 3) for _, a, b in found],
        "width": width,
        "marker": {"color": COLOURS[name]},
        "hovertemplate": f"{name}: %{{base:.1f}} s, for %{{x:.1f}} s<extra></extra>",
    }


def _dots(name: str, symbol: str, names: Sequence[str], marks: Sequence[tuple[float, int, str]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(at, 3) for at, _, _ in marks],
        "y": [names[row] for _, row, _ in marks],
        "text": [what for _, _, what in marks],
        "marker": {"color": COLOURS[name], "symbol": symbol, "size": 13, "line": {"width": 2, "color": COLOURS[name]}},
        "hovertemplate": "%{text}: %{x:.1f} s<extra></extra>",
    }
