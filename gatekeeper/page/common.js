// What every page of the console uses. What the server tells is text; htm and preact never take it for markup.
import { h } from "preact";
import { useEffect, useState } from "preact/hooks";
import htm from "htm";

export const html = htm.bind(h);

/** Draw again each second, for what counts down. */
export function useSeconds() {
  const [, tick] = useState(0);
  useEffect(() => { const timer = setInterval(() => tick((n) => n + 1), 1000); return () => clearInterval(timer); }, []);
}

/** Load the page again as soon as the gatekeeper answers: the browser has given up a feed, which was refused.
 * A proxy does that while the gatekeeper is away; the gatekeeper does it once a login has expired. */
export function loadAgain() {
  setTimeout(() => fetch("/", { method: "HEAD" }).then((answer) => (answer.ok ? location.reload() : loadAgain()), loadAgain), 3000);
}

export function counted(number, one, more) {
  return `${number} ${number === 1 ? one : more}`;
}

export function countdown(due, now) {
  const seconds = Math.ceil((due - now) / 1000);
  if (seconds <= 0) return "due";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `in ${hours} h ${minutes} min` : minutes ? `in ${minutes} min ${seconds % 60} s` : `in ${seconds} s`;
}

/** Return a length of time as a clock that runs shows it: `44 s`, `8:20`, `1:58:03`. */
export function ticking(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : minutes ? `${minutes}:${two(seconds % 60)}` : `${seconds} s`;
}

/** Return the time of day in UTC, as the sentences of the explanation have it. */
export function utc(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}
