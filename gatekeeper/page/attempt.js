// A box to try another configuration on the live room. It changes nothing: the gatekeeper judges the room with it.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { counted, html, ticking, utc } from "./common.js";
import { completed } from "./complete.js";
import { given } from "./configuration.js";

export function Attempt({ view, ahead }) {
  const [text, setText] = useState(null);
  const [found, setFound] = useState(null);
  const [busy, setBusy] = useState(false);
  const written = text ?? JSON.stringify(given(view), null, 2);
  const attempt = async () => {
    setBusy(true);
    setFound(await tried(view.room_sid, written));
    setBusy(false);
  };
  return html`<section class="attempt" aria-labelledby="attempt"><h2 id="attempt">Try another configuration</h2>
    <p class="quiet">In place of the room's metadata, on the room as it is now. It changes nothing.</p>
    <${Editor} text=${written} set=${setText} attempt=${attempt} bad=${found?.problems?.length > 0} />
    <p class="tools"><button onClick=${attempt} disabled=${busy}>${busy ? "Trying…" : "Try it"}</button>
      <button onClick=${() => { setText(null); setFound(null); }}>Begin with what is in force</button><span class="quiet">Ctrl+Enter tries, Ctrl+Space completes</span></p>
    <span class="hidden" role="status">${found && inShort(found)}</span>
    <div class="outcome" id="outcome">${found && html`<${Outcome} found=${found} now=${Date.now() + ahead} />`}</div></section>`;
}

async function tried(sid, configuration) {
  try {
    const answer = await fetch("/console/attempt", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ sid, configuration }) });
    if (answer.status === 401) location.reload();
    return answer.ok ? await answer.json() : { problem: `the gatekeeper refuses it (${answer.status})` };
  } catch {
    return { problem: "no answer from the gatekeeper" };
  }
}

/** Return the outcome for a screen reader, once: the countdowns below would be read out each second. */
function inShort(found) {
  if (found.problem) return `It could not be tried: ${found.problem}`;
  if (found.problems.length) return `Refused: ${counted(found.problems.length, "mistake", "mistakes")}`;
  return `${counted(found.evicted_now.length, "agent", "agents")} would be evicted now; ${counted(found.verdicts.length, "verdict", "verdicts")} in all`;
}

function Outcome({ found, now }) {
  if (found.problem) return html`<p class="bad">It could not be tried: ${found.problem}.</p>`;
  if (found.problems.length) return html`<p class="bad">It would be refused, and what is in force would stay so:</p>
    <ul class="problems">${found.problems.map((each) => html`<li dir="auto">${each.layer}: <code>${each.path}</code>: ${each.message}</li>`)}</ul>`;
  const due = found.verdicts.filter((each) => each.status === "due" || each.status === "covered");
  const of = (status) => found.verdicts.filter((each) => each.status === status);
  const evicted = due.filter((each) => each.status === "due" && found.evicted_now.includes(each.identity));
  const would = found.mode === "dry_run" ? due.filter((each) => each.status === "due") : evicted;
  const later = of("pending").filter((each) => !found.evicted_now.includes(each.identity));
  return html`<p class="when">As the room was at ${utc(Date.parse(found.at))} UTC${found.by_bouncer ? ", as its bouncer saw it" : ", as the server listed it"}:</p>
    ${found.warnings.map((each) => html`<p class="bad" dir="auto">${each}</p>`)}
    ${found.mode === "off" ? html`<p>The mode is off: no one would be judged.</p>` : html`
      <${Verdicts} title=${found.mode === "dry_run" ? "Would be told of now, since the mode is dry_run" : "Would evict now"} none=${html`<strong>No one would be evicted now.</strong>`} some=${would} />
      <${Verdicts} title=${found.mode === "dry_run" ? "Would be told of later" : "Would evict later"} some=${later} ends=${(each) => html`<b class="count">${Date.parse(each.due_at) > now ? `in ${ticking(Date.parse(each.due_at) - now)}` : "by now"}</b>${each.action === "report" ? ", only reported" : each.words.replace(/^due in [^,]*/, "")}`} />
      <${Verdicts} title="Held back" some=${of("held")} ends=${(each) => each.words} />
      <${Verdicts} title="Would be reported" some=${of("reported")} />`}
    ${found.unknown_facts.length > 0 && html`<h3>Not known from here</h3><ul>${found.unknown_facts.map((each) => html`<li>${each.fact}${each.policies.length ? ` (${each.policies.join(", ")})` : ""}</li>`)}</ul>`}`;
}

function Verdicts({ title, some, none, ends }) {
  if (!some.length) return none ? html`<p>${none}</p>` : null;
  return html`<h3>${title}</h3><ul>${some.map((each) => html`<li dir="auto"><bdi><strong>${each.identity}</strong></bdi> under ${each.policy}: it ${each.reason}${ends && html` (${ends(each)})`}</li>`)}</ul>`;
}

/** A text box that offers what the schema allows at the caret. */
function Editor({ text, set, attempt, bad }) {
  const box = useRef(null);
  const schema = useRef(null);
  const [list, setList] = useState(null);
  const caret = useRef(null);
  // In one with the new text: what is typed next has to find the caret there.
  useLayoutEffect(() => { if (caret.current) { box.current.setSelectionRange(...caret.current); caret.current = null; } });
  const load = () => { schema.current ??= fetch("/console/schema.json").then((answer) => answer.json()).catch(() => { schema.current = null; return {}; }); return schema.current; };
  const offer = async (asked) => {
    const known = await load();
    const { value, selectionEnd } = box.current ?? {};
    if (value === undefined) return;
    const found = completed(value, selectionEnd, known);
    const wanted = asked || found.typed || value[selectionEnd - 1] === '"';
    setList(found.offers.length && wanted ? { ...found, at: found.typed ? 0 : -1, ...spot(box.current, selectionEnd) } : null);
  };
  const accept = (each) => {
    const whole = text.slice(0, list.from) + each.insert + text.slice(list.to);
    const inside = /(?:\{\}|\[\]|"")$/.test(each.insert) ? 1 : 0;
    const end = list.from + each.insert.length - inside;
    caret.current = [end, end];
    setList(null);
    set(whole);
    box.current.focus();
  };
  const press = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); setList(null); attempt(); return; }
    if (event.key === " " && event.ctrlKey) { event.preventDefault(); offer(true); return; }
    if (!list) return;
    const count = list.offers.length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); setList({ ...list, at: (list.at + (event.key === "ArrowDown" ? 1 : count - (list.at < 0 ? 0 : 1))) % count }); }
    else if ((event.key === "Enter" || event.key === "Tab") && list.at >= 0 && !event.shiftKey) { event.preventDefault(); accept(list.offers[list.at]); }
    else if (event.key === "Escape") { event.preventDefault(); setList(null); }
    else if (["ArrowLeft", "ArrowRight", "Home", "End", "Tab"].includes(event.key)) setList(null);
  };
  return html`<div class="editor">
    <textarea ref=${box} value=${text} rows="12" spellcheck="false" autocomplete="off" autocapitalize="off" wrap="off" aria-label="Configuration to try, as JSON" aria-autocomplete="list" aria-controls="offers" aria-activedescendant=${list?.at >= 0 ? `offer-${list.at}` : null} aria-describedby=${bad ? "outcome" : null} aria-invalid=${bad ? "true" : null}
      onFocus=${load} onInput=${(event) => { set(event.currentTarget.value); offer(false); }} onKeyDown=${press} onBlur=${() => setList(null)} onScroll=${() => setList((shown) => shown && { ...shown, ...spot(box.current, box.current.selectionEnd) })}></textarea>
    <ul id="offers" role="listbox" aria-label="What may stand here" hidden=${!list} style=${list ? { top: `${list.top}px`, left: `${list.left}px` } : {}}>
      ${list?.offers.map((each, n) => html`<li key=${each.label} id=${`offer-${n}`} role="option" aria-selected=${n === list.at} ref=${n === list.at ? seen : null} onMouseDown=${(event) => { event.preventDefault(); accept(each); }}><code>${each.label}</code>${each.hint && html` <span class="quiet">${each.hint}</span>`}</li>`)}</ul>
    <span class="hidden" role="status">${list ? `${list.offers.length} suggestions` : ""}</span></div>`;
}

const seen = (element) => element?.scrollIntoView({ block: "nearest" });

/** Return where below the caret a list fits. The text is of one width and never wraps. */
function spot(box, caret) {
  const lines = box.value.slice(0, caret).split("\n");
  const style = getComputedStyle(box);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const left = parseFloat(style.paddingLeft) + pen.measureText(lines.at(-1)).width - box.scrollLeft;
  const top = parseFloat(style.paddingTop) + lines.length * parseFloat(style.lineHeight) - box.scrollTop;
  return { top: Math.min(top + 4, box.clientHeight), left: Math.max(0, Math.min(left, box.clientWidth - 384)) };
}
