// Why a participant is still there, or isn't, in the sentences of `bouncer explain`.
import { useEffect, useRef, useState } from "preact/hooks";
import { Evict } from "./acting.js";
import { html, utc } from "./common.js";

/** Explain what is chosen: a participant, or one verdict or record of it. It is told again while the room changes. */
export function Explained({ room, at, chosen, said, close }) {
  const [told, setTold] = useState(null);
  const heading = useRef(null);
  const identity = chosen.who?.identity;
  useEffect(() => { heading.current.focus({ preventScroll: true }); }, [chosen]);
  useEffect(() => { setTold(null); }, [identity]);
  useEffect(() => {
    let here = true;
    const address = `/console/explanation?sid=${encodeURIComponent(room.room_sid)}&identity=${encodeURIComponent(identity ?? "")}`;
    if (identity) fetch(address).then((answer) => (answer.ok ? answer.json() : null), () => null).then((found) => here && found && setTold(found));
    return () => { here = false; };
  }, [identity, at]);
  const { record, verdict } = chosen;
  const present = room.participants.find((who) => who.sid === chosen.who?.sid);
  return html`<aside class="explained" id="explanation" aria-labelledby="about" onKeyDown=${(event) => event.key === "Escape" && close()}>
    <header><h2 id="about" tabindex="-1" ref=${heading} dir="auto">${identity ?? "The room"}</h2><button aria-label="Close the explanation" onClick=${close}>✕</button></header>
    ${record && html`<p class="said"><time>${utc(record.ms)}</time> <span dir="auto">${record.words}</span></p>`}
    ${verdict && html`<p class="said"><time>${utc(verdict.due)}</time> <span dir="auto">${verdict.to === undefined ? "due" : "it would have been due"} under ${verdict.policy}: it ${verdict.verdict.reason}</span></p>`}
    ${identity && (told ? html`<p class="summary" dir="auto">${told.summary}</p>
      ${told.parts.map(([title, lines]) => html`<h3>${title}</h3><ul>${lines.map((line) => html`<li dir="auto" class=${verdict && line.startsWith(`${verdict.policy}: `) ? "chosen" : ""}>${line}</li>`)}</ul>`)}
      ${present && (present.role === "agent" || present.role === "avatar") && html`<${Evict} room=${room} who=${present} />`}` : html`<p class="quiet">Asking…</p>`)}
    ${!identity && (said.length ? html`<h3>What the bouncer told</h3><ul>${said.map((each) => html`<li dir="auto" key=${each.key}>At ${utc(each.ms)} UTC: ${each.words}.</li>`)}</ul>` : html`<p class="quiet">The bouncer has told nothing of the room as a whole.</p>`)}
  </aside>`;
}
