// What a page has been told of one room while it looked, as lanes: ranges and marks in milliseconds of Unix time.
// A bouncer tells how things are. When that changes, what was before becomes a range here.

/** For how long ranges and marks are kept. */
const KEPT = 65 * 60_000;
/** Signs of traffic that are nearer to each other than this are one range. */
const TOGETHER = 3000;
/** Two dates of the same thing differ by less than this. */
const SAME = 250;

const when = (text) => (text ? Date.parse(text) : undefined);

export function memory() {
  return { lanes: new Map(), records: new Map(), at: 0 };
}

/** Take in how a bouncer sees its room at a date. */
export function remember(kept, view, at) {
  const now = Date.parse(at);
  kept.at = now;
  for (const who of view.participants) {
    const lane = laneOf(kept, who);
    Object.assign(lane, { who, left: undefined });
    takeState(lane.states, who, now);
    takeSpeech(lane.speech, who, now);
    for (const sign of [who.active_at, who.alive_at]) takeSign(lane.traffic, when(sign), lane.joined);
    takeVerdicts(lane, view, now);
  }
  for (const who of view.departed) {
    const lane = laneOf(kept, who);
    Object.assign(lane, { left: when(who.left_at), evicted: when(who.evicted_at) ?? lane.evicted });
  }
  const here = new Set(view.participants.map((who) => who.sid));
  for (const lane of kept.lanes.values()) {
    if (here.has(lane.who.sid)) continue;
    lane.left ??= now;
    for (const range of [...lane.states, ...lane.speech, ...lane.verdicts]) range.to ??= lane.left;
  }
  for (const record of view.recent ?? []) {
    const key = `${view.bouncer} ${record.n}`;
    if (!kept.records.has(key)) kept.records.set(key, { ...record, key, ms: Date.parse(record.at) });
  }
  forget(kept, now - KEPT);
}

function laneOf(kept, who) {
  if (!kept.lanes.has(who.sid)) kept.lanes.set(who.sid, { who, joined: when(who.joined_at), states: [], speech: [], traffic: [], verdicts: [] });
  return kept.lanes.get(who.sid);
}

function takeState(states, who, now) {
  const last = states.at(-1);
  const from = when(who.state_at) ?? now;
  if (last && last.to === undefined && last.what === (who.state ?? "") && Math.abs(last.from - from) < SAME) return;
  if (last && last.to === undefined) last.to = who.state ? Math.max(from, last.from) : now;
  if (who.state) states.push({ what: who.state, from });
}

function takeSpeech(speech, who, now) {
  const [since, until, last] = [when(who.speaking_since), when(who.spoke_at), speech.at(-1)];
  if (since !== undefined) {
    if (last && last.to === undefined && Math.abs(last.from - since) < SAME) return;
    if (last && last.to === undefined) last.to = Math.max(last.from, until ?? since);
    speech.push({ from: since });
  } else if (last && last.to === undefined) last.to = Math.max(last.from, until ?? now);
  else if (until !== undefined && until > (last?.to ?? -Infinity) + SAME) speech.push({ from: until, to: until });
}

function takeSign(traffic, sign, joined) {
  if (sign === undefined || Math.abs(sign - joined) < SAME) return;
  const last = traffic.at(-1);
  if (last && sign <= last.to) return;
  if (last && sign - last.to <= TOGETHER) last.to = sign;
  else traffic.push({ from: sign, to: sign });
}

function takeVerdicts(lane, view, now) {
  const told = view.verdicts.filter((each) => each.sid === lane.who.sid);
  for (const range of lane.verdicts) if (!told.some((each) => each.policy === range.policy)) range.to ??= now;
  for (const verdict of told) {
    const due = when(verdict.due_at);
    let range = lane.verdicts.findLast((each) => each.policy === verdict.policy && each.to === undefined);
    const from = beginning(lane.who, verdict, view) ?? (range && Math.abs(range.due - due) < SAME ? range.from : Math.min(now, due));
    if (range && Math.abs(range.due - due) >= SAME) {
      // It counts from a later fact now. What it had grown to stays to be seen, unless that is next to nothing.
      if (from - range.from > TOGETHER) {
        range.to = Math.max(range.from, Math.min(from, now));
        range = undefined;
      } else range.from = from;
    }
    if (!range) lane.verdicts.push((range = { policy: verdict.policy, from }));
    Object.assign(range, { due, verdict });
  }
}

/** Return the fact that a verdict counts from: a date that is exactly one of the rule's allowances before it is due. */
function beginning(who, verdict, view) {
  const [, name, index] = /^(.*?)(?:\[(\d+)\])?$/.exec(verdict.policy);
  const given = view.configuration?.bouncer?.policies?.[name];
  const options = Array.isArray(given) ? given[index ?? 0] : given;
  const numbers = (value) => (typeof value === "number" ? [value] : value && typeof value === "object" ? Object.values(value).flatMap(numbers) : []);
  const dates = [...Object.entries(who), ...Object.entries(view)].filter(([key, value]) => /_(at|since)$/.test(key) && typeof value === "string").map(([, value]) => when(value));
  const due = when(verdict.due_at);
  return dates.find((date) => numbers(options).some((allowed) => Math.abs(due - date - allowed * 1000) < SAME));
}

function forget(kept, before) {
  for (const [sid, lane] of kept.lanes) {
    if (lane.left < before) kept.lanes.delete(sid);
    for (const ranges of [lane.states, lane.speech, lane.traffic, lane.verdicts]) while (ranges[0]?.to < before) ranges.shift();
  }
  for (const [key, record] of kept.records) if (record.ms < before) kept.records.delete(key);
}
