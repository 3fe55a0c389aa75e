// One room, as its bouncer sees it.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Attempt } from "./attempt.js";
import { html, loadAgain, useSeconds } from "./common.js";
import { Configuration } from "./configuration.js";
import { Explained } from "./explained.js";
import { memory, remember } from "./memory.js";
import { Timeline } from "./timeline.js";

/** Keep a room as its bouncer tells of it, and what it has told so far. */
function useRoom(sid) {
  const [seen, setSeen] = useState({ live: false, ahead: 0 });
  const kept = useRef(memory());
  useEffect(() => {
    kept.current = memory();
    setSeen({ live: false, ahead: 0 });
    let view;
    const feed = new EventSource(`/console/room?sid=${encodeURIComponent(sid)}`);
    feed.onmessage = ({ data }) => {
      const told = JSON.parse(data);
      if (told.problem) {
        if (!told.again) feed.close();
        setSeen((before) => ({ ...before, live: false, problem: told.problem, again: told.again }));
        return;
      }
      view = { ...view, ...told.view };
      for (const key of told.gone) delete view[key];
      remember(kept.current, view, told.at);
      setSeen({ live: true, view, at: told.at, ahead: Date.parse(told.at) - Date.now() });
    };
    feed.onerror = () => {
      setSeen((before) => ({ ...before, live: false }));
      if (feed.readyState === EventSource.CLOSED) loadAgain();
    };
    return () => feed.close();
  }, [sid]);
  return { ...seen, kept: kept.current };
}

/** One room as its bouncer sees it. While this page is open the bouncer is asked; nothing is asked otherwise. */
export function Room({ sid }) {
  const { view, at, live, problem, again, ahead, kept } = useRoom(sid);
  const [chosen, setChosen] = useState(null);
  const opener = useRef(null);
  useSeconds();
  const choose = useCallback((what) => { opener.current = document.activeElement; setChosen(what); }, []);
  const close = useCallback(() => { setChosen(null); opener.current?.focus(); }, []);
  const lanes = useRef(null);
  useEffect(() => setChosen(null), [sid]);
  useEffect(() => { if (chosen) lanes.current.querySelector(".lane.on")?.scrollIntoView({ block: "nearest" }); }, [chosen]);
  return html`<header><h1 dir="auto">${view ? view.room : "Room"}</h1>
      <p class=${live ? "live" : "lost"} role="status">${live ? "as its bouncer sees it" : problem ?? "asking the bouncer…"}</p></header>
    <main class=${`room ${chosen ? "split" : ""}`} tabindex="-1"><div class="story" ref=${lanes}>
    ${problem && html`<p>${again ? "The room shows here as soon as one comes." : `${problem}.`} <a href="#rooms">Back to the rooms</a>${!again && html`, or <button onClick=${() => location.reload()}>ask again</button>`}</p>`}
    ${view && html`<${Facts} view=${view} />
      <${Timeline} kept=${kept} now=${Date.now() + ahead} chosen=${chosen} choose=${choose} />
      <${Configuration} view=${view} />
      <${Attempt} key=${sid} view=${view} ahead=${ahead} />`}</div>
    ${view && chosen && html`<${Explained} room=${view} at=${at} chosen=${chosen} close=${close} said=${[...kept.records.values()].filter((each) => !each.identity)} />`}
    </main>`;
}

function Facts({ view }) {
  const people = view.participants.filter((who) => who.role === "person").length;
  const agents = view.participants.filter((who) => who.role === "agent").length;
  const facts = [["People", people], ["Agents", agents], ["Bouncer", view.standing.replaceAll("_", " ")], ["Mode", view.mode || "?"], ["Listens", view.hearing || "?"], ["Evicted", view.evictions?.all ?? 0], ["Under way", view.evictions?.under_way ?? 0]];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${view.problems.length > 0 && html`<div class="refused" role="alert"><strong>Its configuration was refused${view.configuration === null ? "" : "; the one before stays in force"}.</strong>
      <ul>${view.problems.map((each) => html`<li dir="auto">${each.layer}: <code>${each.path}</code>: ${each.message}</li>`)}</ul></div>`}
    ${view.not_shown > 0 && html`<p class="quiet">${view.not_shown} more participants are not shown.</p>`}`;
}
