// A recording, to look through and to correct.
import { Failed, get, post, text, token } from "/static/api.js";
import { CLASSES, clock, fit, grid, label, pxPerMm, setPxPerMm } from "/static/paper.js";
import { Tiles } from "/static/tiles.js";

const $ = (id) => document.getElementById(id);
const SPEEDS = [100, 50, 25, 12.5, 6.25, 3, 1, 0.3, 0.1, 0.03, 0.01, 0.003];
const PAPER_FROM = 6; // mm/s, below which no paper is drawn
const POLL_MS = 2000;
const PENDING = "edge-review-pending";
const MM_PER_MV = 10;
const MM_PER_MMHG = 0.5;

const state = { about: null, tiles: null, first: 0, speed: 25, beats: [], segments: [], alarms: [], reviewed: [], loaded: [0, 0], seq: 0, version: -1,
  selected: null, segment: null, cursor: null, overview: null, why: null, draws: 0 };
let record = "";
let wanted = false;

function say(words, wrong = false) {
  $("status").textContent = words;
  $("status").className = wrong ? "error" : "";
}

function redraw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => { wanted = false; draw(); });
}

const canvas = $("trace");
const samplesPerPx = () => state.about.fs / (state.speed * pxPerMm());
const span = () => canvas.clientWidth * samplesPerPx();

function go(first) {
  const { samples } = state.about;
  state.first = Math.max(Math.min(first, samples - span() * 0.5), -span() * 0.25);
  load();
  redraw();
}

function centre(sample) {
  const low = state.first + span() * 0.2;
  const high = state.first + span() * 0.8;
  if (sample < low || sample > high) go(sample - span() / 2);
  else redraw();
}

function zoom(speed) {
  const middle = state.selected && inView(state.selected.sample) ? state.selected.sample : state.first + span() / 2;
  const share = (middle - state.first) / span();
  state.speed = speed;
  go(middle - span() * share);
  $("scale").textContent = `${speed} mm/s`;
}

const inView = (sample) => sample >= state.first && sample < state.first + span();

// -- drawing ------------------------------------------------------------------------------------------------------

function rows() {
  const { signals } = state.about;
  const shown = signals.map((signal, i) => ({ ...signal, i })).filter((signal) => signal.kind !== "other");
  return shown.length ? shown : signals.map((signal, i) => ({ ...signal, i }));
}

function draw() {
  if (!state.about) return;
  const { context, width, height } = fit(canvas);
  const mm = pxPerMm();
  const spp = samplesPerPx();
  context.clearRect(0, 0, width, height);
  if (state.speed >= PAPER_FROM) grid(context, width, height, mm, (state.first / state.about.fs) * state.speed * mm);
  const top = 44;
  const bottom = 30;
  const shown = rows();
  const each = (height - top - bottom) / shown.length;
  drawSegments(context, width, height, spp);
  drawWhy(context, height - bottom, each);
  context.strokeStyle = "#14171c";
  context.lineWidth = 1.1;
  context.lineJoin = "round";
  shown.forEach((signal, row) => {
    const range = state.tiles.range(signal.i, state.first, spp, width);
    const middle = top + each * (row + 0.58);
    const perUnit = { mV: MM_PER_MV * mm, mmHg: MM_PER_MMHG * mm }[signal.unit] || (range ? (each * 0.8) / Math.max(1e-9, range.high - range.low) : 1);
    const base = range ? (signal.unit === "mmHg" ? (range.low + range.high) / 2 : range.middle) : 0;
    context.save();
    context.beginPath();
    context.rect(0, top + each * row - (row ? 0 : 12), width, each + (row ? 0 : 12));
    context.clip();
    state.tiles.draw(context, signal.i, state.first, spp, width, (value) => middle - (value - base) * perUnit);
    context.restore();
    context.fillStyle = "#16181d";
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "left";
    context.fillText(`${signal.name} (${signal.unit || "no unit"})`, 4, top + each * row + 12);
  });
  drawBeats(context, width, height, spp, bottom);
  drawTime(context, width, height, spp);
  drawOverview();
  state.draws += 1;
  document.body.dataset.draws = String(state.draws);
}

function drawBeats(context, width, height, spp, bottom) {
  const x = (sample) => (sample - state.first) / spp;
  const room = width / Math.max(1, state.beats.filter((beat) => inView(beat.sample)).length);
  for (const beat of state.beats) {
    if (!inView(beat.sample)) continue;
    const chosen = state.selected && state.selected.id === beat.id;
    if (chosen) {
      context.fillStyle = "rgb(11 87 164 / 16%)";
      context.fillRect(x(beat.sample) - 14, 0, 28, height - bottom);
      context.strokeStyle = "#0b57a4";
      context.lineWidth = 2;
      context.strokeRect(x(beat.sample) - 14, 1, 28, height - bottom - 2);
    }
    if (room > 14 || beat.label !== "N" || chosen) {
      label(context, beat.deleted ? null : beat.label, x(beat.sample), 18, beat.act !== null);
      if (beat.deleted) {
        context.strokeStyle = "#000";
        context.lineWidth = 2;
        context.beginPath();
        context.moveTo(x(beat.sample) - 7, 11); context.lineTo(x(beat.sample) + 7, 25);
        context.moveTo(x(beat.sample) + 7, 11); context.lineTo(x(beat.sample) - 7, 25);
        context.stroke();
      }
      if (beat.model !== beat.label && beat.model && room > 20 && beat.act) {
        context.font = "10px system-ui, sans-serif";
        context.fillStyle = "#454b57";
        context.fillText(`was ${beat.model}`, x(beat.sample), 39);
      }
    }
  }
  if (state.cursor !== null && inView(state.cursor)) {
    context.strokeStyle = "#0b57a4";
    context.setLineDash([4, 3]);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x(state.cursor), 0);
    context.lineTo(x(state.cursor), height);
    context.stroke();
    context.setLineDash([]);
  }
  context.textAlign = "left";
  for (const alarm of state.alarms) {
    if (!inView(alarm.sample)) continue;
    context.fillStyle = "#8c0d0d";
    context.fillRect(x(alarm.sample), 0, 1.5, height - bottom);
    context.font = "bold 12px system-ui, sans-serif";
    context.fillText(`▲ ${alarm.kind} (${alarm.priority})`, x(alarm.sample) + 4, height - bottom - 8);
  }
}

function drawSegments(context, width, height, spp) {
  const x = (sample) => (sample - state.first) / spp;
  for (const [first, end] of state.reviewed) {
    context.fillStyle = "#1d6b3a";
    context.fillRect(x(first), height - 30, (end - first) / spp, 3);
  }
  for (const one of state.segments) {
    if (one.end < state.first || one.first > state.first + span()) continue;
    const chosen = state.segment && state.segment.first === one.first && state.segment.channel === one.channel;
    const left = x(one.first);
    const wide = (one.end - one.first) / spp;
    if (one.abnormal) {
      context.fillStyle = "rgb(150 90 0 / 13%)";
      context.fillRect(left, 44, wide, height - 74);
    }
    context.strokeStyle = chosen ? "#0b57a4" : "#7c8492";
    context.lineWidth = chosen ? 2.5 : 0.7;
    context.strokeRect(left + 1, height - 26, wide - 2, 13);
    const said = one.artefact === null ? (one.label || "") : one.artefact ? `artefact ✓ ${one.who}` : `not artefact ✓ ${one.who}`;
    if (said && wide > 60) {
      context.fillStyle = "#16181d";
      context.font = `${one.artefact === null ? "" : "bold "}10px system-ui, sans-serif`;
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(said, Math.max(2, left + 4), height - 19);
    }
  }
}

function drawWhy(context, floor, each) {
  const { why } = state;
  if (!why || !inView(why.sample)) return;
  const spp = samplesPerPx();
  const signal = why.inputs.find((part) => part.kind === "signal");
  if (!signal) return;
  const most = Math.max(1e-9, ...signal.lost.map(Math.abs));
  signal.lost.forEach((lost, i) => {
    const x = (why.sample + ((i - signal.before) / signal.rate_hz) * why.fs - state.first) / spp;
    const wide = why.fs / signal.rate_hz / spp;
    const tall = (Math.abs(lost) / most) * Math.min(90, each * 0.4);
    context.fillStyle = lost > 0 ? "rgb(176 42 0 / 45%)" : "rgb(11 95 165 / 35%)";
    context.fillRect(x, floor - tall, wide, tall);
  });
}

function drawTime(context, width, height, spp) {
  const seconds = (width * spp) / state.about.fs;
  const step = [0.2, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600].find((one) => seconds / one < 12) || 86400;
  context.fillStyle = "#16181d";
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  const begin = Math.ceil(state.first / state.about.fs / step) * step;
  for (let at = Math.max(0, begin); at < begin + seconds; at += step) {
    const x = (at * state.about.fs - state.first) / spp;
    context.fillRect(x, height - 12, 1, 4);
    context.fillText(clock(at).replace(/\.00$/, ""), x + 3, height - 2);
  }
}

function drawOverview() {
  const { context, width, height } = fit($("overview"));
  context.clearRect(0, 0, width, height);
  const { overview: whole } = state;
  const { samples } = state.about;
  if (whole) {
    const bins = whole.rate.length;
    const wide = width / bins;
    const most = Math.max(1, ...whole.N.map((n, i) => n + whole.S[i] + whole.V[i] + whole.F[i] + whole.Q[i]));
    for (let i = 0; i < bins; i += 1) {
      let y = height - 14;
      for (const name of ["V", "S", "F", "Q"]) {
        const tall = Math.min(40, Math.sqrt(whole[name][i] / most) * 40);
        if (!tall) continue;
        context.fillStyle = CLASSES[name].colour;
        context.fillRect(i * wide, y - tall, Math.max(1, wide), tall);
        y -= tall;
      }
    }
    const line = (values, low, high, colour, dash) => {
      context.beginPath();
      let pen = false;
      values.forEach((value, i) => {
        if (value === null) { pen = false; return; }
        const y = 4 + (height - 24) * (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low));
        if (pen) context.lineTo((i + 0.5) * wide, y); else context.moveTo((i + 0.5) * wide, y);
        pen = true;
      });
      context.setLineDash(dash);
      context.strokeStyle = colour;
      context.lineWidth = 1.4;
      context.stroke();
      context.setLineDash([]);
    };
    line(whole.rate, 30, 200, "#16181d", []);
    line(whole.systolic, 30, 200, "#7a2f86", [5, 2]);
    line(whole.diastolic, 30, 200, "#7a2f86", [2, 2]);
    context.fillStyle = "#8c0d0d";
    for (const [at, , priority] of whole.alarms) {
      const x = (at / samples) * width;
      const tall = { high: 10, medium: 7, low: 4 }[priority] || 4;
      context.beginPath();
      context.moveTo(x, 0); context.lineTo(x + tall / 2, tall); context.lineTo(x - tall / 2, tall);
      context.fill();
    }
    context.fillStyle = "#965a00";
    for (const [first, end] of whole.abnormal) context.fillRect((first / samples) * width, height - 12, Math.max(1, ((end - first) / samples) * width), 5);
    context.fillStyle = "#1d6b3a";
    for (const [first, end] of whole.reviewed) context.fillRect((first / samples) * width, height - 6, Math.max(1, ((end - first) / samples) * width), 4);
    context.fillStyle = "#16181d";
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.strokeStyle = "#fff";
    context.lineWidth = 4;
    const legend = "rate 30–200/min, pressure dashed; bars: V S F Q; ▲ alarms; below: abnormal segments, looked at";
    context.strokeText(legend, 12, 22);
    context.fillText(legend, 12, 22);
  }
  context.strokeStyle = "#0b57a4";
  context.lineWidth = 2;
  const left = (state.first / samples) * width;
  context.strokeRect(left, 1, Math.max(3, (span() / samples) * width), height - 2);
}

// -- what is in view ----------------------------------------------------------------------------------------------

let loading = 0;
let shown = 0;
async function load(force = false) {
  const [from, to] = state.loaded;
  const first = Math.floor(state.first);
  const end = Math.ceil(state.first + span());
  if (!force && first >= from && end <= to) return;
  const turn = ++loading;
  const mine = record;
  await new Promise((done) => setTimeout(done, force ? 0 : 60));
  if (turn !== loading && !force) return;
  const more = Math.ceil(span() / 2);
  const { samples } = state.about;
  const low = Math.max(0, Math.min(first - more, samples - 1));
  const high = Math.max(low + 1, Math.min(end + more, samples));
  try {
    const found = await get("/api/beats", { record, first: low, end: high });
    if (turn < shown || record !== mine) return; // an answer that was overtaken; one that is merely not the last is taken
    shown = turn;
    Object.assign(state, { beats: found.beats || [], segments: found.segments || [], alarms: found.alarms, reviewed: found.reviewed,
      loaded: [first - more, end + more], seq: Math.max(state.seq, found.seq), version: found.version });
    refresh();
  } catch (error) {
    say(error.message, true);
  }
}

function refresh() {
  if (state.selected) state.selected = state.beats.find((beat) => beat.id === state.selected.id) || state.selected;
  const at = state.selected ? state.selected.sample : state.first + span() / 2;
  state.segment = state.segment && state.segments.find((one) => one.first === state.segment.first && one.channel === state.segment.channel);
  if (!state.segment || $("filter").value !== "segments") state.segment = state.segments.find((one) => one.first <= at && at < one.end) || state.segment;
  describe();
  redraw();
}

function list(element, pairs) {
  element.replaceChildren(...pairs.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    term.textContent = name;
    const said = document.createElement("dd");
    said.textContent = value;
    return [term, said];
  }));
}

function describe() {
  const beat = state.selected;
  list($("beat"), !beat ? [["", "none selected"]] : [
    ["at", `${clock(beat.sample / state.about.fs)} (sample ${beat.sample})`],
    ["class", beat.deleted ? "deleted" : `${beat.label || "none"} ${beat.label ? CLASSES[beat.label].name : ""}`],
    ["model", beat.model ? `${beat.model}, score ${beat.score === null ? "-" : beat.score.toFixed(2)}` : "said nothing"],
    ["person", beat.act ? `${beat.act}, ${beat.who}, ${beat.at}` : "-"],
    ["reference", beat.reference || "-"],
  ]);
  document.body.dataset.selected = beat ? beat.id : "";
  document.body.dataset.sample = beat ? String(beat.sample) : "";
  document.body.dataset.label = beat && !beat.deleted ? beat.label || "" : "";
  document.body.dataset.segment = state.segment ? `${state.segment.first}-${state.segment.end}` : "";
  document.body.dataset.artefact = state.segment ? String(state.segment.artefact) : "";
  const one = state.segment;
  list($("segment"), !one ? [["", "none"]] : [
    ["from", `${clock(one.first / state.about.fs)} to ${clock(one.end / state.about.fs)}, ${one.channel}`],
    ["model", one.label ? `${one.label}${one.score === null ? "" : `, score ${one.score.toFixed(2)}`}` : "said nothing"],
    ["person", one.artefact === null ? "-" : `${one.artefact ? "artefact" : "not an artefact"}, ${one.who}, ${one.at}`],
  ]);
  $("alarms").replaceChildren(...state.alarms.filter((alarm) => alarm.sample < state.first + span() && (alarm.until === null || alarm.until >= state.first))
    .slice(0, 30).map((alarm) => {
      const item = document.createElement("li");
      const evidence = Object.entries(alarm.evidence).map(([key, value]) => `${key} ${value}`).join(", ");
      item.textContent = `${alarm.kind} (${alarm.priority}, ${alarm.state}) ${clock(alarm.sample / state.about.fs)}: ${evidence}`;
      return item;
    }));
}

async function step(forward) {
  const filter = $("filter").value;
  const from = filter === "segments" && state.segment ? state.segment.first : state.selected ? state.selected.sample : Math.round(state.first + span() / 2);
  const at = Math.max(0, from);
  const found = await get("/api/next", { record, filter, at, way: forward ? "on" : "back" });
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

function select(beat) {
  state.selected = beat;
  state.cursor = null;
  state.segment = state.segments.find((one) => one.first <= beat.sample && beat.sample < one.end) || null;
  centre(beat.sample);
  describe();
  say(`beat ${beat.deleted ? "deleted" : beat.label || "without class"} at ${clock(beat.sample / state.about.fs)}${beat.model ? `, model ${beat.model}` : ""}`);
}

// -- corrections ----------------------------------------------------------------------------------------------------

// What is not answered yet is kept in the browser: it is sent again after a crash, and done once, by its token.
const pending = () => JSON.parse(localStorage.getItem(PENDING) || "[]");
const keep = (ops) => localStorage.setItem(PENDING, JSON.stringify(ops));
let sending = false;

function who() {
  const name = $("who").value.trim();
  if (!name) {
    say("say who you are first: every correction is kept with a name", true);
    $("who").focus();
    return null;
  }
  return name;
}

async function correct(wish, then) {
  const name = who();
  if (!name) return;
  keep([...pending(), { path: "/api/correct", body: { record, token: token(), who: name, ...wish } }]);
  await flush(then);
}

async function flush(then) {
  if (sending) return;
  sending = true;
  try {
    for (let ops = pending(); ops.length; ops = pending()) {
      const { path, body } = ops[0];
      let done;
      try {
        done = await post(path, body);
      } catch (error) {
        if (!(error instanceof Failed) || error.status >= 500 || error.status === 401) throw error;
        keep(pending().slice(1));
        if (error.status === 409) conflict(body, error.said.latest);
        else say(error.message, true);
        continue;
      }
      keep(pending().slice(1));
      saved(done);
    }
    if (then) await then();
  } catch (error) {
    say(`not saved yet (${error.message}); kept in this browser and tried again`, true);
    setTimeout(() => flush(), 2000);
  } finally {
    sending = false;
  }
  await load(true);
  poll();
}

function saved({ operation, target }) {
  const one = target || operation;
  document.body.dataset.saved = String(operation.seq);
  say(`saved: ${operation.act}${target ? ` of ${target.act}` : ""}${one.label ? ` ${one.label}` : ""}${one.sample === undefined || one.sample === null ? "" : ` at ${clock(one.sample / state.about.fs)}`}`);
  if (operation.act === "add") state.selected = { ...operation, id: operation.thing, model: null, score: null, reference: null, deleted: false };
  if (target && target.sample !== undefined && target.sample !== null) centre(target.sample);
}

function conflict(body, latest) {
  $("conflict").hidden = false;
  const what = latest.label || (latest.act === "delete" ? "deleted" : latest.act);
  $("conflict-text").textContent = `${latest.who} has changed it meanwhile, to ${what}.`;
  $("mine").onclick = () => { $("conflict").hidden = true; const { record: _r, token: _t, who: _w, base: _b, ...wish } = body; correct({ ...wish, base: latest.seq }); };
  $("theirs").onclick = () => { $("conflict").hidden = true; };
  $("mine").focus();
}

const onBeat = (act, more = {}, then = undefined) => {
  const beat = state.selected;
  if (!beat) { say("select a beat first"); return undefined; }
  return correct({ act, id: beat.id, sample: beat.sample, base: beat.seq, label: act === "delete" ? null : beat.label || "Q", ...more }, then);
};

async function again(act) {
  const name = who();
  if (!name) return;
  keep([...pending(), { path: "/api/step", body: { record, token: token(), who: name, act } }]);
  await flush();
}

async function explain() {
  if (!state.selected) { say("select a beat first"); return; }
  say("asking the model with parts of the beat blanked …");
  try {
    state.why = await get("/api/explain", { record, sample: state.selected.sample });
    const features = state.why.inputs.filter((part) => part.features).flatMap((part) => part.features.map((name, i) => [name, part.lost[i]]));
    features.sort((a, b) => b[1] - a[1]);
    $("why").textContent = `${state.why.label} with score ${state.why.score} (${state.why.model}). Bars under the beat: what the score loses where the signal is blank`
      + ` (above: for the class; blue: against). Features that speak most for it: ${features.slice(0, 3).map(([name, lost]) => `${name} ${lost.toFixed(3)}`).join(", ")}.`;
    document.body.dataset.explained = String(state.why.sample);
    say("explained");
  } catch (error) {
    say(error.message, true);
  }
  redraw();
}

// -- pictures and files -----------------------------------------------------------------------------------------------

async function picture(kind) {
  const first = Math.max(0, Math.floor(state.first));
  const end = Math.min(state.about.samples, Math.floor(first + Math.min(span(), 120 * state.about.fs)));
  const svg = await text("/api/strip.svg", { record, first, end });
  const blob = new Blob([svg], { type: "image/svg+xml" });
  const name = `${record.replace(/[^A-Za-z0-9_-]/g, "_")}-${first}`;
  if (kind === "svg") { download(blob, `${name}.svg`); return; }
  const image = new Image();
  const url = URL.createObjectURL(blob);
  image.onload = () => {
    const sheet = document.createElement("canvas");
    sheet.width = Math.min(16000, image.naturalWidth * 2);
    sheet.height = image.naturalHeight * 2;
    sheet.getContext("2d").drawImage(image, 0, 0, sheet.width, sheet.height);
    sheet.toBlob((png) => download(png, `${name}.png`), "image/png");
    URL.revokeObjectURL(url);
  };
  image.src = url;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  document.body.dataset.downloaded = `${name} ${blob.size}`;
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function exported() {
  const done = await post("/api/export", { record });
  document.body.dataset.exported = done.annotations;
  say(`exported ${done.beats} beats (${done.corrected} by a person) to ${done.annotations}, ${done.artefacts} artefacts to ${done.marks}`);
}

function measure() {
  const said = prompt("Hold a bank card (85.6 mm) against the screen: how many millimetres is the blue frame around this button row wide?", "");
  const mm = Number(said);
  if (mm > 10) { setPxPerMm(document.querySelector(".bar").clientWidth / mm); redraw(); }
}

// -- keys and pointer ---------------------------------------------------------------------------------------------------

const deeds = {
  next: () => step(true),
  back: () => step(false),
  accept: () => onBeat("accept", {}, () => step(true)),
  add: () => correct({ act: "add", sample: Math.round(state.cursor ?? state.first + span() / 2), label: "N" }),
  delete: () => onBeat("delete"),
  earlier: (event) => onBeat("move", { sample: Math.max(0, (state.selected?.sample ?? 0) - (event.shiftKey ? 10 : 1)) }),
  later: (event) => onBeat("move", { sample: (state.selected?.sample ?? 0) + (event.shiftKey ? 10 : 1) }),
  artefact: () => {
    const one = state.segment;
    if (!one) { say("no segment here"); return undefined; }
    return correct({ act: one.abnormal ? "normal" : "artefact", first: one.first, end: one.end, channel: one.channel, base: one.seq });
  },
  reviewed: () => correct({ act: "reviewed", first: Math.max(0, Math.floor(state.first)), end: Math.min(state.about.samples, Math.ceil(state.first + span())) }),
  undo: () => again("undo"),
  redo: () => again("redo"),
  explain,
  svg: () => picture("svg"),
  png: () => picture("png"),
  export: exported,
  measure,
  closer: () => zoom(SPEEDS[Math.max(0, SPEEDS.indexOf(state.speed) - 1)]),
  wider: () => zoom(SPEEDS[Math.min(SPEEDS.length - 1, SPEEDS.indexOf(state.speed) + 1)]),
  usual: () => zoom(25),
  pageback: () => go(state.first - span() * 0.9),
  pageon: () => go(state.first + span() * 0.9),
  home: () => go(0),
  end: () => go(state.about.samples - span()),
  help: () => $("keys").showModal(),
  ...Object.fromEntries(Object.keys(CLASSES).map((name) => [name, () => onBeat("label", { label: name })])),
};
const KEYS = { ArrowRight: "next", ArrowLeft: "back", Enter: "accept", i: "add", Delete: "delete", Backspace: "delete", ",": "earlier", ".": "later", "<": "earlier", ">": "later", x: "artefact",
  r: "reviewed", u: "undo", y: "redo", e: "explain", "+": "closer", "=": "closer", "-": "wider", 0: "usual", PageUp: "pageback", PageDown: "pageon", Home: "home", End: "end", "?": "help",
  n: "N", s: "S", v: "V", f: "F", q: "Q" };

async function act(name, event) {
  try {
    await deeds[name](event);
  } catch (error) {
    say(error.message, true);
  }
}

document.addEventListener("keydown", (event) => {
  if (!state.about || event.altKey || event.metaKey || $("keys").open) return;
  const { target } = event;
  if (target instanceof HTMLInputElement || (target instanceof HTMLSelectElement && event.key !== "Escape")) return;
  if (event.ctrlKey) {
    if (event.key === "z" || event.key === "Z") { event.preventDefault(); act(event.shiftKey ? "redo" : "undo", event); }
    return;
  }
  if (event.key === "Enter" && (target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement)) return;
  const options = $("filter").options;
  if (/^[1-9]$/.test(event.key) && options[Number(event.key) - 1]) {
    $("filter").selectedIndex = Number(event.key) - 1;
    $("filter").dispatchEvent(new Event("change"));
    return;
  }
  const name = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (name) { event.preventDefault(); act(name, event); }
});
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", (event) => act(button.dataset.do, event));
$("help").addEventListener("click", () => $("keys").showModal());
$("filter").addEventListener("change", () => { $("filter").blur(); canvas.focus(); say(`filter: ${$("filter").selectedOptions[0].textContent}`); });
$("who").value = localStorage.getItem("edge-review-who") || "";
$("who").addEventListener("change", () => localStorage.setItem("edge-review-who", $("who").value.trim()));

let drag = null;
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.offsetX, first: state.first, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  if (Math.abs(event.offsetX - drag.x) > 4) drag.moved = true;
  if (drag.moved) go(drag.first - (event.offsetX - drag.x) * samplesPerPx());
});
canvas.addEventListener("pointerup", (event) => {
  const was = drag;
  drag = null;
  if (!was || was.moved) return;
  const sample = state.first + event.offsetX * samplesPerPx();
  const near = state.beats.reduce((best, beat) => (Math.abs(beat.sample - sample) < Math.abs((best?.sample ?? Infinity) - sample) ? beat : best), null);
  if (near && Math.abs(near.sample - sample) < 14 * samplesPerPx()) { select(near); return; }
  state.cursor = Math.max(0, Math.min(state.about.samples - 1, Math.round(sample)));
  state.segment = state.segments.find((one) => one.first <= sample && sample < one.end) || state.segment;
  describe();
  say(`cursor at ${clock(sample / state.about.fs)}`);
  redraw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey) act(event.deltaY > 0 ? "wider" : "closer", event);
  else go(state.first + (event.deltaX + event.deltaY) * samplesPerPx());
}, { passive: false });
const overviewTo = (event) => go((event.offsetX / $("overview").clientWidth) * state.about.samples - span() / 2);
$("overview").addEventListener("pointerdown", (event) => { $("overview").setPointerCapture(event.pointerId); overviewTo(event); });
$("overview").addEventListener("pointermove", (event) => { if (event.buttons) overviewTo(event); });
new ResizeObserver(() => { if (state.about) { load(); redraw(); } }).observe($("paper"));

// -- opening, and what others do -------------------------------------------------------------------------------------------

let polling;
let polls = 0;
let overviewAt = 0;
async function poll() {
  clearTimeout(polling);
  const mine = record;
  const turn = ++polls; // one that is asked for meanwhile goes on in place of this one
  try {
    const now = await get("/api/changes", { record, after: state.seq });
    if (mine !== record || turn !== polls) return;
    const others = now.operations.filter((one) => one.who !== $("who").value.trim());
    if (others.length) say(`${others[others.length - 1].who}: ${others.length} ${others.length === 1 ? "change" : "changes"}`);
    const changed = now.seq !== state.seq || now.version !== state.version || others.length;
    state.seq = now.seq;
    progress(now);
    if (changed) await load(true);
    if (changed || performance.now() > overviewAt + 30000) await overview();
  } catch (error) {
    say(`${error.message}; trying again`, true);
  }
  if (turn === polls) polling = setTimeout(poll, POLL_MS);
}

function progress(now) {
  const { samples } = state.about;
  const said = [];
  if (now.pyramid < samples) said.push(`reading ${Math.floor((100 * now.pyramid) / samples)} %`);
  if (now.models.state === "running") said.push(`models at ${Math.floor((100 * now.models.reached) / samples)} %`);
  if (now.models.state === "failed") said.push(`models: ${now.models.why}`);
  $("progress").textContent = said.join(", ");
  document.body.dataset.models = now.models.state;
  list($("counts"), Object.entries(now.counts));
}

async function overview() {
  overviewAt = performance.now();
  state.overview = await get("/api/overview", { record, bins: Math.max(10, Math.min(1200, Math.floor($("overview").clientWidth / 2), Math.floor(state.about.samples / state.about.fs / 5))) });
  redraw();
}

async function open(name) {
  document.body.dataset.ready = "";
  record = name;
  const about = await get("/api/open", { record });
  Object.assign(state, { about, tiles: new Tiles(record, about, redraw), first: 0, beats: [], segments: [], alarms: [], reviewed: [], loaded: [0, 0],
    seq: about.seq, version: -1, selected: null, segment: null, cursor: null, overview: null, why: null });
  document.title = `${name} – Edge Agent review`;
  $("get-rev").href = `/api/export.rev?${new URLSearchParams({ record })}`;
  $("get-artf").href = `/api/export.artf?${new URLSearchParams({ record })}`;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  progress(about);
  zoom(25);
  await Promise.all([load(true), overview()]);
  document.body.dataset.ready = name;
  canvas.focus();
  say(about.said.join("; ") || `${name}: ${clock(about.samples / about.fs)}, ${about.fs} samples a second`);
  poll();
}

async function begin() {
  const { records, live } = await get("/api/about");
  $("to-live").hidden = !live;
  $("record").replaceChildren(...records.map(({ name }) => new Option(name, name)));
  if (!records.length) { say("there is no recording in this folder yet"); return; }
  const asked = decodeURIComponent(location.hash.slice(1));
  const name = records.some((one) => one.name === asked) ? asked : records[0].name;
  $("record").value = name;
  $("record").addEventListener("change", () => act2(() => open($("record").value)));
  await act2(() => open(name));
  await flush();
}

async function act2(run) {
  try { await run(); } catch (error) { say(error.message, true); }
}
act2(begin);
