// The console: its pages, by the part of the address after #.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Acting } from "./acting.js";
import { html } from "./common.js";
import { History } from "./history.js";
import { Overview } from "./overview.js";
import { Room } from "./room.js";

function App() {
  const [at, setAt] = useState(location.hash);
  useEffect(() => { const on = () => setAt(location.hash); addEventListener("hashchange", on); return () => removeEventListener("hashchange", on); }, []);
  const history = at === "#history";
  const room = at.startsWith("#room=") ? decodeURIComponent(at.slice(6)) : "";
  return html`<nav aria-label="Pages"><span class="brand" aria-hidden="true">Bouncer</span><a href="#rooms" aria-current=${history || room ? null : "page"}>Rooms</a><a href="#history" aria-current=${history ? "page" : null}>History</a></nav>
    ${history ? html`<${History} />` : room ? html`<${Room} sid=${room} />` : html`<${Overview} />`}
    <${Acting} />`;
}

render(html`<${App} />`, document.getElementById("app"));
