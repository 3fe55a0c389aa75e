// The history: what the bouncers have done, in figures.
import { useEffect, useState } from "preact/hooks";
import { html } from "./common.js";

const KINDS = [["evicted", "evicted"], ["reported", "reported"], ["held", "held back"], ["failed", "failed"]];

/** Bars for each day, one colour for each kind. The table below them says the same in figures. */
function Days({ days, last }) {
  const byDay = new Map(days.map((day) => [day.day, day]));
  const today = Date.now();
  const all = Array.from({ length: last }, (_, n) => new Date(today - (last - 1 - n) * 86400000).toISOString().slice(0, 10));
  const total = (day) => KINDS.reduce((sum, [kind]) => sum + (byDay.get(day)?.[kind] ?? 0), 0);
  const most = Math.max(1, ...all.map(total));
  const width = 600 / last;
  return html`<figure><svg viewBox="0 0 600 112" role="img" aria-label=${`What happened on each of the last ${last} days; at most ${most} a day`}>
    ${all.map((day, n) => {
      let top = 110;
      return KINDS.map(([kind]) => {
        const high = ((byDay.get(day)?.[kind] ?? 0) / most) * 100;
        top -= high;
        return high > 0 && html`<rect class=${`bar ${kind}`} x=${n * width + 1} y=${top} width=${Math.max(1, width - 2)} height=${high}><title>${day}: ${byDay.get(day)[kind]} ${kind}</title></rect>`;
      });
    })}
    <line x1="0" x2="600" y1="110.5" y2="110.5" class="axis" />
  </svg><p class="ends"><span>${all[0]}</span><span>at most ${most} a day</span><span>${all[last - 1]}</span></p><figcaption>${KINDS.map(([kind, name]) => html`<span class=${`key ${kind}`}>${name}</span>`)}</figcaption></figure>`;
}

function Ranking({ title, rows, none }) {
  const most = Math.max(1, ...rows.map(([, number]) => number));
  return html`<section><h2>${title}</h2>${rows.length ? html`<table class="ranking"><tbody>${rows.map(([name, number]) => html`<tr>
    <th scope="row" dir="auto"><bdi>${name || "(no name)"}</bdi></th><td aria-hidden="true"><span class="share"><span style=${{ width: `${100 * number / most}%` }}></span></span></td><td class="count">${number}</td></tr>`)}</tbody></table>` : html`<p class="quiet">${none}</p>`}</section>`;
}

function Figure({ number, what }) {
  return html`<p class="figure"><strong>${number.toLocaleString()}</strong> ${what}</p>`;
}

function sum(days, kind) {
  return days.reduce((total, day) => total + (day[kind] ?? 0), 0);
}

export function History() {
  const [days, setDays] = useState(30);
  const [found, setFound] = useState(null);
  useEffect(() => {
    let here = true;
    fetch(`/console/history?days=${days}`).then((answer) => answer.status === 401 ? location.reload() : answer.json())
      .catch(() => ({ error: "no connection to the gatekeeper" })).then((told) => here && told && setFound(told));
    return () => { here = false; };
  }, [days]);
  const chosen = html`<label>The last <select value=${days} onChange=${(event) => setDays(Number(event.target.value))}>${[7, 30, 90, 365].map((n) => html`<option value=${n}>${n} days</option>`)}</select></label>`;
  let body;
  if (!found) body = html`<p>Reading the history…</p>`;
  else if (found.off) body = html`<p>The gatekeeper has no history: its database can't be used. Its log says why, and <code>BOUNCER_DATABASE_URL</code> names another one.</p>`;
  else if (found.error) body = html`<p role="alert">The history can't be read now: ${found.error}.</p>`;
  else if (!found.records) body = html`<h2>Nothing yet</h2><p>Bouncers send what they do by webhook. Point them at this gatekeeper, in the workers' environment:</p><pre>BOUNCER_WEBHOOK_URL=${location.origin}/bouncer</pre>`;
  else body = html`<div class="figures">
      <${Figure} number=${sum(found.days, "evicted")} what="agents evicted" />
      <${Figure} number=${found.minutes_saved} what="agent minutes saved, at most: from each eviction until its bouncer left" />
      <${Figure} number=${sum(found.days, "reported")} what="only reported" />
      <${Figure} number=${sum(found.days, "failed")} what="attempts that failed" />
    </div>
    <${Days} days=${found.days} last=${days} />
    <div class="rankings">
      <${Ranking} title="Evictions by policy" rows=${found.policies} none="No eviction." />
      <${Ranking} title="Most evicted agents" rows=${found.agents} none="No eviction." />
      <${Ranking} title="Failures" rows=${found.failures} none="None." />
    </div>
    <p>All ${found.records} records: <a href=${`/console/history.csv?days=${days}`} download>CSV</a>, <a href=${`/console/history.jsonl?days=${days}`} download>JSON lines</a></p>`;
  return html`<header><h1>History</h1><p>${chosen}</p></header><main class="history" tabindex="-1">${body}</main>`;
}
