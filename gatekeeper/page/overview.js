// The overview: every room, live.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { counted, countdown, html, loadAgain, useSeconds } from "./common.js";

const ATTENTION = ["unguarded", "refused", "failing", "held"];
const STANDINGS = {
  unwanted: "left alone", unneeded: "none needed", unknown: "looking", wanted: "wanted", dispatched: "on its way",
  guarded: "guarded", lost: "lost", refused: "no worker took it",
};
const NARROW = matchMedia("(max-width: 760px)");

/** Keep the rooms as the server streams them. After a break, the browser connects again and gets all of them. */
function useRooms() {
  const [state, setState] = useState({ rooms: new Map(), live: false, known: false, blind: false, ahead: 0 });
  useLayoutEffect(() => { // before the first paint, so that the rooms are on their way meanwhile
    const rooms = new Map();
    const feed = new EventSource("/console/rooms");
    feed.onmessage = ({ data }) => {
      const told = JSON.parse(data);
      if (told.whole) rooms.clear();
      for (const [sid, row] of Object.entries(told.rows)) row ? rooms.set(sid, row) : rooms.delete(sid);
      setState({ rooms, live: true, known: true, blind: told.blind, ahead: told.now - Date.now() });
    };
    feed.onerror = () => {
      setState((before) => ({ ...before, live: false }));
      if (feed.readyState === EventSource.CLOSED) loadAgain();
    };
    return () => feed.close();
  }, []);
  return state;
}

function useNarrow() {
  const [narrow, set] = useState(NARROW.matches);
  useEffect(() => { const on = () => set(NARROW.matches); NARROW.addEventListener("change", on); return () => NARROW.removeEventListener("change", on); }, []);
  return narrow;
}

function matches(row, words) {
  const text = [row.name, ...row.names, ...row.policies, row.mode].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function worst(row) {
  const at = ATTENTION.findIndex((word) => row.attention[word]);
  return at < 0 ? ATTENTION.length : at;
}

function ordered(rooms, query, only) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return [...rooms].filter(([, row]) => (!only || worst(row) < ATTENTION.length) && matches(row, words))
    .sort(([a, x], [b, y]) => worst(x) - worst(y) || (x.next?.due ?? Infinity) - (y.next?.due ?? Infinity) || x.name.localeCompare(y.name) || (a < b ? -1 : 1));
}

function Row({ sid, row, top, index, now }) {
  const why = ATTENTION.map((word) => row.attention[word]).filter(Boolean).join("; ");
  const who = row.bouncer && row.bouncer !== "acting" ? row.bouncer.replace("_", " ") : STANDINGS[row.standing] ?? row.standing;
  return html`<div role="row" aria-rowindex=${index + 2} class=${why ? "row needs" : "row"} style=${{ top: `${top}px` }}>
    <div role="cell" class="name" dir="auto" title=${row.name}><a href=${`#room=${encodeURIComponent(sid)}`}>${row.name}</a></div>
    <div role="cell" class="count">${counted(row.people, "person", "people")}, ${counted(row.agents, "agent", "agents")}</div>
    <div role="cell" class="names" dir="auto" title=${row.names.join(", ")}>${row.names.length ? row.names.map((name, n) => html`${n ? " " : ""}<bdi class="tag">${name}</bdi>`) : html`<span class="quiet">no agent</span>`}</div>
    <div role="cell"><span class=${`pill ${row.standing} ${row.bouncer}`}>${who}</span></div>
    <div role="cell" class=${`mode ${row.mode}`}>${row.mode.replace("_", " ") || "?"}</div>
    <div role="cell" class="count next">${row.next ? html`<strong>${countdown(row.next.due, now)}</strong> <span class="quiet">${row.next.policy}</span>` : html`<span class="quiet">nothing ahead</span>`}</div>
    <div role="cell" class="count evicted">${row.evicted}</div>
    ${why && html`<div role="cell" class="why" dir="auto" title=${why}>${why}</div>`}
  </div>`;
}

function Empty({ known, query, total }) {
  if (!known) return html`<div class="empty"><p>Connecting to the gatekeeper…</p></div>`;
  if (total) return html`<div class="empty"><p>No room matches “<bdi>${query}</bdi>”. Clear the search to see all ${total}.</p></div>`;
  return html`<div class="empty"><h2>No room is open</h2><p>A room shows here as soon as it opens. To see one, join any room of this server, or:</p><pre>lk room create my-room</pre></div>`;
}

export function Overview() {
  const state = useRooms();
  const { rooms, live, known, blind, ahead } = state;
  const [query, setQuery] = useState("");
  const [only, setOnly] = useState(false);
  const [view, setView] = useState({ top: 0, height: 800 });
  const list = useRef(null);
  const narrow = useNarrow();
  useSeconds();
  const height = narrow ? 96 : 60;
  // Scrolling and counting down sort nothing.
  const shown = useMemo(() => ordered(rooms, query, only), [state, query, only]);
  const attention = useMemo(() => [...rooms.values()].filter((row) => worst(row) < ATTENTION.length).length, [state]);
  useEffect(() => {
    const measure = () => list.current && setView({ top: list.current.scrollTop, height: list.current.clientHeight });
    measure();
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, []);
  const first = Math.max(0, Math.floor(view.top / height) - 6);
  const part = shown.slice(first, Math.ceil((view.top + view.height) / height) + 6);
  const now = Date.now() + ahead;
  const head = narrow ? 0 : 32;
  return html`<header>
      <h1>Rooms</h1>
      <p role="status">${rooms.size} open, ${attention} ${attention === 1 ? "needs" : "need"} attention</p>
      <div class="search">
        <input type="search" aria-label="Search by room, agent name, policy or mode" placeholder="Room, agent, policy, mode" value=${query} onInput=${(event) => setQuery(event.target.value)} />
        <button aria-pressed=${only} class=${attention ? "urgent" : ""} onClick=${() => setOnly(!only)}>${only ? "Show all" : "Needs attention"}</button>
      </div>
      <p class=${live && !blind ? "live" : "lost"} role="status">${!live ? "no connection to the gatekeeper; trying again" : blind ? "LiveKit does not answer; this is what was last known" : "live"}</p>
    </header>
    <main class="list" ref=${list} tabindex="0" aria-label="Rooms" onScroll=${(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}>
      ${shown.length ? html`<div role="table" aria-label="Rooms" aria-rowcount=${shown.length + 1}>
        <div role="row" aria-rowindex="1" class="head">${["Room", "Present", "Agents", "Bouncer", "Mode", "Next", "Evicted"].map((name) => html`<div role="columnheader">${name}</div>`)}</div>
        <div role="rowgroup" class="rows" style=${{ height: `${shown.length * height + head}px` }}>
          ${part.map(([sid, row], n) => html`<${Row} key=${sid} sid=${sid} row=${row} index=${first + n} top=${(first + n) * height} now=${now} />`)}
        </div></div>` : html`<${Empty} known=${known} query=${query || "needs attention"} total=${rooms.size} />`}
    </main>`;
}
