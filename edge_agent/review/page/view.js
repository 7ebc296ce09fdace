// Moving through the recording, and fetching what is in view.
import { get } from "/static/api.js";
import { describe, refresh } from "/static/describe.js";
import { redraw } from "/static/draw.js";
import { clock } from "/static/paper.js";
import { $, inView, say, span, state } from "/static/state.js";

export const SPEEDS = [100, 50, 25, 12.5, 6.25, 3, 1, 0.3, 0.1, 0.03, 0.01, 0.003];

export function go(first) {
  const { samples } = state.about;
  state.first = Math.max(Math.min(first, samples - span() * 0.5), -span() * 0.25);
  load();
  redraw();
}

export function centre(sample) {
  const low = state.first + span() * 0.2;
  const high = state.first + span() * 0.8;
  if (sample < low || sample > high) go(sample - span() / 2);
  else redraw();
}

export function zoom(speed) {
  const middle = state.selected && inView(state.selected.sample) ? state.selected.sample : state.first + span() / 2;
  const share = (middle - state.first) / span();
  state.speed = speed;
  go(middle - span() * share);
  $("scale").textContent = `${speed} mm/s`;
}

let loading = 0;
let shown = 0;
export async function load(force = false) {
  const [from, to] = state.loaded;
  const first = Math.floor(state.first);
  const end = Math.ceil(state.first + span());
  if (!force && first >= from && end <= to) return;
  const turn = ++loading;
  const mine = state.record;
  await new Promise((done) => setTimeout(done, force ? 0 : 60));
  if (turn !== loading && !force) return;
  const more = Math.ceil(span() / 2);
  const { samples } = state.about;
  const low = Math.max(0, Math.min(first - more, samples - 1));
  const high = Math.max(low + 1, Math.min(end + more, samples));
  try {
    const found = await get("/api/beats", { record: state.record, first: low, end: high });
    if (turn < shown || state.record !== mine) return; // an answer that was overtaken; one that is merely not the last is taken
    shown = turn;
    Object.assign(state, { beats: found.beats || [], segments: found.segments || [], alarms: found.alarms, reviewed: found.reviewed,
      loaded: [first - more, end + more], seq: Math.max(state.seq, found.seq), version: found.version });
    refresh();
  } catch (error) {
    say(error.message, true);
  }
}

export async function step(forward) {
  const filter = $("filter").value;
  const from = filter === "segments" && state.segment ? state.segment.first : state.selected ? state.selected.sample : Math.round(state.first + span() / 2);
  const at = Math.max(0, from);
  const found = await get("/api/next", { record: state.record, filter, at, way: forward ? "on" : "back" });
  if (filter === "segments") {
    if (!found.segment) { say(`no abnormal segment ${forward ? "after" : "before"} this one`); return; }
    state.segment = found.segment;
    state.selected = null;
    centre((found.segment.first + found.segment.end) / 2);
    describe();
    say(`segment from ${clock(found.segment.first / state.about.fs)}: ${found.segment.label || "no label"}`);
    return;
  }
  if (!found.beat) { say(`no such beat ${forward ? "after" : "before"} this one`); return; }
  select(found.beat);
}

export function select(beat) {
  state.selected = beat;
  state.cursor = null;
  state.segment = state.segments.find((one) => one.first <= beat.sample && beat.sample < one.end) || null;
  centre(beat.sample);
  describe();
  say(`beat ${beat.deleted ? "deleted" : beat.label || "without class"} at ${clock(beat.sample / state.about.fs)}${beat.model ? `, model ${beat.model}` : ""}`);
}
