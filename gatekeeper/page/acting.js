// Evicting by hand, where the gatekeeper allows it: a button for each agent, one dialog, and how it ended.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "./common.js";

const ALLOWED = document.querySelector('meta[name="bouncer-acts"]') !== null;
const ASKED = "bouncer-evict";

/** The button that asks for an agent's eviction. */
export function Evict({ room, who }) {
  const ask = () => dispatchEvent(new CustomEvent(ASKED, { detail: { room, who } }));
  return ALLOWED && html`<p><button class="danger" onClick=${ask}>Evict by hand…</button></p>`;
}

/** Ask for the reason, and say how it ended. It outlives the agent that it is about. */
export function Acting() {
  const [asked, setAsked] = useState(null);
  const [busy, setBusy] = useState(false);
  const [told, setTold] = useState(null);
  const dialog = useRef(null);
  useEffect(() => {
    const ask = ({ detail }) => { setTold(null); setAsked(detail); };
    addEventListener(ASKED, ask);
    return () => removeEventListener(ASKED, ask);
  }, []);
  useEffect(() => { if (asked && !dialog.current.open) dialog.current.showModal(); }, [asked]);
  const evict = async (event) => {
    event.preventDefault();
    setBusy(true);
    setTold(await act({ room_sid: asked.room.room_sid, identity: asked.who.identity, sid: asked.who.sid, reason: event.target.reason.value }));
    setBusy(false);
    dialog.current?.close();
  };
  const closed = () => setAsked(null);
  return html`<div role="status">${told && html`<p class=${`told ${told.bad ? "bad" : ""}`}>${told.lines.map((line) => html`<span dir="auto">${line}</span>`)} <button onClick=${() => setTold(null)}>Close</button></p>`}</div>
    ${asked && html`<dialog ref=${dialog} onClose=${closed} aria-labelledby="evicted">
      <form onSubmit=${evict}>
        <h2 id="evicted">Evict <bdi>${asked.who.agent_name || asked.who.identity}</bdi> from <bdi>${asked.room.room}</bdi>?</h2>
        <p class="quiet"><bdi>${asked.who.identity}</bdi> leaves now. People, bouncers and exempt agents are refused. The history and the log keep the reason, and who asked.</p>
        <label for="reason">Reason</label>
        <input id="reason" name="reason" required maxlength="200" pattern=".*\\S.*" autocomplete="off" disabled=${busy} />
        <p class="buttons"><button type="button" onClick=${() => dialog.current.close()}>Cancel</button> <button class="danger" disabled=${busy}>${busy ? "Evicting…" : "Evict"}</button></p>
      </form></dialog>`}`;
}

async function act(wanted) {
  try {
    const answer = await fetch("/act/evict", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(wanted) });
    if (answer.status === 401) location.reload();
    if (answer.status === 403) return { bad: true, lines: ["The gatekeeper took this for another site's request, and did nothing."] };
    const { told, problem } = await answer.json();
    return problem ? { bad: true, lines: [problem] } : { bad: false, lines: told };
  } catch {
    return { bad: true, lines: ["No answer from the gatekeeper. Look whether the agent is still there."] };
  }
}
