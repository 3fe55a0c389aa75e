// The configuration in force, value by value, with the layer that each comes from.
import { html } from "./common.js";

export function Configuration({ view }) {
  const rows = values(view.configuration?.bouncer ?? {}, "$.bouncer").map(([path, value]) => [path, value, view.origins[path] ?? ""]);
  const given = rows.filter(([, , origin]) => origin !== BUILT_IN);
  const defaults = rows.filter(([, , origin]) => origin === BUILT_IN);
  const table = (some) => html`<table class="values"><thead><tr><th scope="col">Option</th><th scope="col">Value</th><th scope="col">From</th></tr></thead>
    <tbody>${some.map(([path, value, origin]) => html`<tr key=${path}><th scope="row"><code dir="auto">${path.replace("$.bouncer.", "")}</code></th><td><code dir="auto">${JSON.stringify(value)}</code></td><td class="quiet" dir="auto">${origin}</td></tr>`)}</tbody></table>`;
  return html`<section aria-labelledby="configured"><h2 id="configured">Configuration in force</h2>
    ${view.configuration === null ? html`<p>None is valid, so nothing is evicted.</p>` : given.length ? table(given) : html`<p class="quiet">Nothing is configured: all of it is as by default.</p>`}
    ${defaults.length > 0 && html`<details><summary>${defaults.length} values as by default</summary>${table(defaults)}</details>`}
  </section>`;
}

export const BUILT_IN = "built-in defaults";

/** Return every single value with its JSON path, as `bouncer check` has it: of a list of rules each option is one. */
function values(value, path) {
  const steps = stepsOf(value);
  return steps.length ? steps.flatMap(([step, inner]) => values(inner, at(path, step))) : [[path, value]];
}

function stepsOf(value) {
  if (Array.isArray(value)) return value.every((each) => each && typeof each === "object" && !Array.isArray(each)) ? [...value.entries()] : [];
  return value && typeof value === "object" ? Object.entries(value) : [];
}

function at(path, step) {
  if (typeof step === "number") return `${path}[${step}]`;
  return /^[\p{L}_][\p{L}\p{N}_]*$/u.test(step) ? `${path}.${step}` : `${path}[${JSON.stringify(step)}]`;
}

/** Return what was given of a configuration, to begin another one with: what isn't as by default. */
export function given(view) {
  const kept = (value, path) => {
    const steps = stepsOf(value);
    if (!steps.length) return view.origins[path] === BUILT_IN ? undefined : value;
    const inner = steps.map(([step, each]) => [step, kept(each, at(path, step))]).filter(([, each]) => each !== undefined);
    if (Array.isArray(value)) return inner.length ? steps.map(([step]) => Object.fromEntries(stepsOf(Object.fromEntries(inner)[step] ?? {}))) : undefined;
    return inner.length ? Object.fromEntries(inner) : undefined;
  };
  return { bouncer: kept(view.configuration?.bouncer ?? {}, "$.bouncer") ?? {} };
}
