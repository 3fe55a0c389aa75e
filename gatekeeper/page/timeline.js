// The lanes of a room over time. Drawn by hand: ranges and marks are a few rectangles, and each is a button.
import { useEffect, useRef, useState } from "preact/hooks";
import { counted, html, ticking, utc } from "./common.js";

const SPANS = [[120, "2 minutes"], [300, "5 minutes"], [900, "15 minutes"], [3600, "1 hour"]];
/** The part of the axis that is ahead. */
const AHEAD = 0.3;
const STEPS = [10, 30, 60, 120, 300, 600, 1200];
const MOST = 60;
const ROW = 16;
const ROLES = ["agent", "avatar", "person", "bouncer", "nobody"];
const STATES = new Set(["initializing", "idle", "listening", "thinking", "speaking"]);
const MARKS = {
  notice: "M0-6 6 5H-6Z", evicted: "M-5-5 5 5M5-5-5 5", held: "M-3-5V5M3-5V5", failed: "M0-6V1M0 4V6",
  reported: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5", called_off: "M-5 0H5",
};
const OTHER = "M0-5 5 0 0 5-5 0Z";

export function Timeline({ kept, now: present, chosen, choose }) {
  const [span, setSpan] = useState(300);
  const [held, setHeld] = useState(null);
  const [all, setAll] = useState(false);
  const [box, width] = useWidth();
  const now = held ?? present;
  const axis = { from: now - span * 1000 * (1 - AHEAD), to: now + span * 1000 * AHEAD, now, width };
  axis.x = (ms) => ((ms - axis.from) / (axis.to - axis.from)) * width;
  const lanes = ordered(kept, axis);
  const shown = all ? lanes : lanes.slice(0, MOST);
  const records = [...kept.records.values()];
  return html`<section class="timeline" aria-labelledby="lanes">
    <div class="tools"><h2 id="lanes">Participants</h2>
      <label>Show <select value=${span} onChange=${(event) => setSpan(Number(event.target.value))}>${SPANS.map(([seconds, name]) => html`<option value=${seconds}>${name}</option>`)}</select></label>
      <button aria-pressed=${held !== null} onClick=${() => setHeld(held === null ? present : null)}>${held === null ? "Pause" : "Go on"}</button>
      <span class="quiet">${held === null ? "" : `stopped at ${utc(held)}`}</span></div>
    <div class="lanes" role="list" aria-label="Participants" onKeyDown=${walk}>
      <div class="lane ruler" aria-hidden="true"><div class="quiet">UTC</div><div class="track" ref=${box}><${Ruler} axis=${axis} /></div></div>
      <${Lane} key="room" title=${html`<span class="name">The room</span><span class="quiet">its bouncer and its configuration</span>`} label="The room" lane=${null} axis=${axis} marks=${records.filter((each) => !each.identity)} chosen=${chosen} choose=${choose} />
      ${shown.map((lane) => html`<${Lane} key=${lane.who.sid} lane=${lane} axis=${axis} marks=${records.filter((each) => each.sid === lane.who.sid)} chosen=${chosen} choose=${choose} title=${html`<${Title} lane=${lane} now=${now} />`} label=${lane.who.identity} />`)}
    </div>
    ${lanes.length > shown.length && html`<p><button onClick=${() => setAll(true)}>Show all ${counted(lanes.length, "participant", "participants")}</button></p>`}
    ${lanes.length === 0 && html`<p class="quiet">No one is here but the bouncer. Anyone who joins gets a lane.</p>`}
    <${Legend} />
  </section>`;
}

/** Those that are here: of many, first those that something is ahead of. Then those that left while the axis shows it. */
function ordered(kept, axis) {
  const lanes = [...kept.lanes.values()].filter((lane) => (lane.left === undefined || lane.left > axis.from) && !(lane.who.role === "nobody" && lane.who.hidden));
  const many = lanes.length > MOST;
  const rank = (lane) => [lane.left === undefined ? 0 : 1, many && next(lane) ? 0 : 1, ROLES.indexOf(lane.who.role), lane.joined];
  return lanes.map((lane) => [rank(lane), lane]).sort(([a], [b]) => a.map((part, n) => part - b[n]).find(Boolean) ?? 0).map(([, lane]) => lane);
}

const open = (lane) => lane.verdicts.filter((each) => each.to === undefined);
const next = (lane) => open(lane).sort((a, b) => a.due - b.due)[0];

function Title({ lane, now }) {
  const { who } = lane;
  const first = next(lane);
  const gone = lane.left === undefined ? "" : lane.evicted ? "evicted" : "left";
  return html`<span class="name" dir="auto">${who.agent_name || who.identity}</span>
    <span class="quiet" dir="auto">${[who.agent_name && who.identity, who.role, gone || who.state, who.exempt && "exempt"].filter(Boolean).map((part, n) => html`${n ? " · " : ""}<bdi>${part}</bdi>`)}</span>
    ${first && !gone && html`<span class=${`ahead ${tone(first, now)}`}>${first.policy} ${words(first, now)}</span>`}`;
}

/** Return what becomes of a verdict, in two words or three. */
function words(range, now) {
  const { status, held_by: guard } = range.verdict;
  if (status === "leaving") return "being evicted";
  if (status === "held" || (guard && range.due <= now)) return `held back: ${guard.replaceAll("_", " ")}`;
  if (status === "reported") return "due, only reported";
  if (range.due <= now) return "due";
  return `in ${ticking(range.due - now)}${guard ? ", then held back" : ""}`;
}

function tone({ due, verdict }, now) {
  if (verdict.held_by || verdict.status === "reported") return "held";
  return due <= now || verdict.status !== "pending" ? "due" : "pending";
}

function Lane({ lane, axis, marks, title, label, chosen, choose }) {
  const sid = lane?.who.sid ?? "room";
  const seen = lane?.verdicts.filter((each) => (each.to ?? Infinity) > axis.from && each.from < axis.to) ?? [];
  const rows = [...new Set(seen.map((each) => each.policy))];
  const points = marks.filter((each) => each.ms > axis.from && each.ms < axis.to);
  const top = lane ? 32 : 4;
  const marked = points.length || !lane ? 20 : 0;
  const height = top + marked + rows.length * ROW + 6;
  const stops = [
    ...seen.map((each) => [each.from, html`<${Range} key=${`${each.policy} ${each.from}`} range=${each} y=${top + marked + rows.indexOf(each.policy) * ROW} axis=${axis} choose=${() => choose({ sid, who: lane.who, verdict: each })} on=${chosen?.verdict === each} />`]),
    ...points.map((each) => [each.ms, html`<${Mark} key=${each.key} record=${each} x=${axis.x(each.ms)} y=${top + 9} choose=${() => choose({ sid, who: lane?.who, record: each })} on=${chosen?.record?.key === each.key} />`]),
  ].sort(([a], [b]) => a - b).map(([, drawn]) => drawn);
  const on = chosen?.sid === sid;
  return html`<div role="listitem" class=${`lane ${on ? "on" : ""} ${lane?.left === undefined ? "" : "gone"}`} data-sid=${sid}>
    <button class="who" data-stop aria-expanded=${on} onClick=${() => choose({ sid, who: lane?.who })}>${title}</button>
    <div class="track"><svg width=${axis.width} height=${height} role="group" aria-label=${`What happened: ${label}`}>
      ${lane && html`<${Life} lane=${lane} axis=${axis} />`}
      <line class="now" x1=${axis.x(axis.now)} x2=${axis.x(axis.now)} y1="0" y2="100%" />
      ${stops}
    </svg></div></div>`;
}

/** Return a range as it is visible: x and width; nothing if it isn't. */
function part(axis, from, to, least = 0) {
  if (to < axis.from || from > axis.to) return null;
  const x = Math.max(-4, axis.x(from));
  return { x, width: Math.max(least, Math.min(axis.width + 4, axis.x(to)) - x) };
}

function Life({ lane, axis }) {
  const end = lane.left ?? axis.now;
  const bar = (kind, y, height, least) => (range) => {
    const seen = part(axis, range.from, Math.min(range.to ?? end, axis.now), least);
    return seen && html`<rect class=${kind(range)} ...${seen} y=${y} height=${height} rx="2" />`;
  };
  const states = lane.states.map((range) => {
    const seen = part(axis, range.from, Math.min(range.to ?? end, axis.now));
    return seen && seen.width > 8 * range.what.length && html`<text x=${Math.max(0, seen.x) + 4} y="13">${range.what}</text>`;
  });
  return html`<g aria-hidden="true">
    ${bar(() => `here ${lane.who.role}`, 3, 14)({ from: lane.joined })}
    ${lane.states.map(bar((range) => `state ${STATES.has(range.what) ? range.what : "other"}`, 3, 14, 1))}${states}
    ${lane.speech.map(bar(() => "speech", 19, 5, 2))}
    ${lane.traffic.map(bar(() => "traffic", 26, 3, 2))}
  </g>`;
}

function Range({ range, y, axis, choose, on }) {
  const over = range.to !== undefined;
  const kind = over ? "over" : tone(range, axis.now);
  const whole = part(axis, range.from, over ? range.to : Math.max(range.due, axis.now), 3);
  const end = Math.min(range.to ?? Infinity, axis.now);
  const grown = part(axis, range.from, end, 2);
  const text = over ? range.policy : `${range.policy} ${words(range, axis.now)}`;
  const size = text.length * 6.4;
  if (!whole) return null;
  const [left, right] = [Math.max(0, whole.x), Math.min(axis.width, whole.x + whole.width)];
  const at = right - left > size ? left + 4 : right + size + 4 < axis.width ? right + 4 : Math.max(2, axis.width - size - 2);
  return html`<${Stop} kind=${`verdict ${kind}`} label=${`${text}: it ${range.verdict.reason}`} choose=${choose} on=${on}>
    <rect class="hit" x=${whole.x} width=${whole.width} y=${y - 1} height=${ROW} />
    ${!over && html`<rect class="whole" x=${whole.x} width=${whole.width} y=${y} height=${ROW - 2} rx="3" />`}
    ${grown && html`<rect class="grown" ...${grown} y=${over ? y + 4 : y} height=${over ? ROW - 10 : ROW - 2} rx="3" />`}
    ${!over && html`<text x=${at} y=${y + 11}>${text}</text>`}
  <//>`;
}

function Mark({ record, x, y, choose, on }) {
  const kind = MARKS[record.event] ? record.event : "other";
  return html`<${Stop} kind=${`mark ${kind}`} label=${`${utc(record.ms)}: ${record.words}`} choose=${choose} on=${on}>
    <g transform=${`translate(${x} ${y})`}><circle class="hit" r="10" /><path d=${MARKS[record.event] ?? OTHER} /></g>
  <//>`;
}

/** A drawing that is a button. */
function Stop({ kind, label, choose, on, children }) {
  const press = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } };
  return html`<g class=${`${kind} ${on ? "on" : ""}`} role="button" tabindex="-1" data-stop aria-label=${label} onClick=${choose} onKeyDown=${press}><title>${label}</title>${children}</g>`;
}

function Ruler({ axis }) {
  const room = axis.width / 70;
  const step = 1000 * (STEPS.find((seconds) => (axis.to - axis.from) / 1000 / seconds <= room) ?? STEPS.at(-1));
  const ticks = [];
  for (let ms = Math.ceil(axis.from / step) * step; ms < axis.to; ms += step) if (axis.x(ms) > 24 && axis.x(ms) < axis.width - 24) ticks.push(ms);
  return html`<svg width=${axis.width} height="20" aria-hidden="true">${ticks.map((ms) => html`<g key=${ms}><line class="tick" x1=${axis.x(ms)} x2=${axis.x(ms)} y1="14" y2="20" /><text x=${axis.x(ms)} y="11" text-anchor="middle">${step < 60_000 ? utc(ms) : utc(ms).slice(0, 5)}</text></g>`)}
    <path class="nowhead" d=${`M${axis.x(axis.now) - 4} 14h8l-4 6z`} /></svg>`;
}

function Legend() {
  const mark = (kind, name) => html`<li><svg width="16" height="14" class=${`mark ${kind}`} aria-hidden="true"><g transform="translate(8 7)"><path d=${MARKS[kind] ?? OTHER} /></g></svg>${name}</li>`;
  const bar = (kind, name, height) => html`<li><svg width="18" height="12" aria-hidden="true"><rect class=${kind} y=${6 - height / 2} width="18" height=${height} rx="2" /></svg>${name}</li>`;
  return html`<ul class="legend" aria-label="Legend">
    ${bar("here agent", "here", 10)}${bar("speech", "speaks", 5)}${bar("traffic", "sends, or shows life", 3)}
    <li class="verdict pending"><svg width="18" height="12" aria-hidden="true"><rect class="whole" x="1" y="1" width="16" height="10" rx="2" /><rect class="grown" x="1" y="1" width="9" height="10" rx="2" /></svg>verdict, until it is due</li>
    ${mark("notice", "notice")}${mark("held", "held back")}${mark("evicted", "evicted")}${mark("reported", "reported")}${mark("failed", "failed")}
    <li class="quiet">Arrow keys walk through a lane; Enter explains.</li></ul>`;
}

/** Walk with the arrow keys: along a lane, and from lane to lane. */
function walk(event) {
  const lane = event.target.closest("[role=listitem]");
  if (!lane || event.altKey || event.ctrlKey || event.metaKey) return;
  const stops = (each) => [...(each?.querySelectorAll("[data-stop]") ?? [])];
  const here = stops(lane).indexOf(event.target);
  const to = {
    ArrowRight: () => stops(lane)[here + 1], ArrowLeft: () => stops(lane)[here - 1],
    ArrowDown: () => stops(lane.nextElementSibling)[0], ArrowUp: () => stops(lane.previousElementSibling)[0],
    Home: () => stops(lane)[0], End: () => stops(lane).at(-1),
  }[event.key]?.();
  if (to) { event.preventDefault(); to.focus(); }
}

function useWidth() {
  const box = useRef(null);
  const [width, setWidth] = useState(600);
  useEffect(() => {
    const watching = new ResizeObserver(([seen]) => setWidth(Math.max(120, Math.floor(seen.contentRect.width))));
    watching.observe(box.current);
    return () => watching.disconnect();
  }, []);
  return [box, width];
}
