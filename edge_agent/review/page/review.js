// A recording, to look through and to correct.
import { get, shown } from "/static/api.js";
import { again, correct, flush, onBeat, onSaved } from "/static/corrections.js";
import { describe, list } from "/static/describe.js";
import { redraw } from "/static/draw.js";
import { explain, exported, measure, picture } from "/static/files.js";
import { CLASSES, clock } from "/static/paper.js";
import { $, canvas, samplesPerPx, say, span, state } from "/static/state.js";
import { Tiles } from "/static/tiles.js";
import { SPEEDS, go, load, select, step, zoom } from "/static/view.js";

const POLL_MS = 2000;

const deeds = {
  next: () => step(true),
  back: () => step(false),
  accept: () => onBeat("accept", undefined, () => step(true)),
  add: () => correct({ act: "add", sample: Math.round(state.cursor ?? state.first + span() / 2), label: "N" }),
  delete: () => onBeat("delete"),
  earlier: (event) => onBeat("move", ({ sample }) => ({ sample: Math.max(0, sample - (event.shiftKey ? 10 : 1)) })),
  later: (event) => onBeat("move", ({ sample }) => ({ sample: sample + (event.shiftKey ? 10 : 1) })),
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
  ...Object.fromEntries(Object.keys(CLASSES).map((name) => [name, () => onBeat("label", () => ({ label: name }))])),
};
const KEYS = { ArrowRight: "next", ArrowLeft: "back", Enter: "accept", i: "add", Delete: "delete", Backspace: "delete", ",": "earlier", ".": "later", "<": "earlier", ">": "later", x: "artefact",
  r: "reviewed", u: "undo", y: "redo", e: "explain", "+": "closer", "=": "closer", "-": "wider", 0: "usual", PageUp: "pageback", PageDown: "pageon", Home: "home", End: "end", "?": "help",
  n: "N", s: "S", v: "V", f: "F", q: "Q" };

// What a correction does depends on the beat as the one before left it: they stand in line, and a key is never too fast.
// A key held down does not fill the line: it would go on long after it was let go.
const AT_ONCE = new Set(["explain", "svg", "png", "export", "measure", "closer", "wider", "usual", "pageback", "pageon", "home", "end", "help"]);
const HELD = 2;
let line = Promise.resolve();
let waiting = 0;

function act(name, event) {
  const deed = () => told(() => deeds[name](event));
  if (AT_ONCE.has(name)) { deed(); return; }
  if (event?.repeat && waiting >= HELD) return;
  waiting += 1;
  line = line.then(deed).finally(() => { waiting -= 1; });
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
  const mine = state.record;
  const turn = ++polls; // one that is asked for meanwhile goes on in place of this one
  try {
    const now = await get("/api/changes", { record: state.record, after: state.seq });
    if (mine !== state.record || turn !== polls) return;
    const others = now.operations.filter((one) => one.who !== $("who").value.trim());
    if (others.length) say(`${shown(others[others.length - 1].who)}: ${others.length} ${others.length === 1 ? "change" : "changes"}`);
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
  state.overview = await get("/api/overview", { record: state.record, bins: Math.max(10, Math.min(1200, Math.floor($("overview").clientWidth / 2), Math.floor(state.about.samples / state.about.fs / 5))) });
  redraw();
}

async function open(name) {
  document.body.dataset.ready = "";
  const about = await get("/api/open", { record: name });
  Object.assign(state, { record: name, about, tiles: new Tiles(name, about, redraw), first: 0, beats: [], segments: [], alarms: [], reviewed: [], loaded: [0, 0],
    seq: about.seq, version: -1, selected: null, segment: null, cursor: null, overview: null, why: null });
  document.title = `${shown(name)} – Edge Agent review`;
  $("get-rev").href = `/api/export.rev?${new URLSearchParams({ record: state.record })}`;
  $("get-artf").href = `/api/export.artf?${new URLSearchParams({ record: state.record })}`;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  progress(about);
  zoom(25);
  await Promise.all([load(true), overview()]);
  document.body.dataset.ready = name;
  canvas.focus();
  say(shown(about.said.join("; ")) || `${shown(name)}: ${clock(about.samples / about.fs)}, ${about.fs} samples a second`);
  poll();
}

async function begin() {
  const { records, live } = await get("/api/about");
  $("to-live").hidden = !live;
  $("record").replaceChildren(...records.map(({ name }) => new Option(shown(name), name)));
  if (!records.length) { say("there is no recording in this folder yet"); return; }
  const asked = decodeURIComponent(location.hash.slice(1));
  const name = records.some((one) => one.name === asked) ? asked : records[0].name;
  $("record").value = name;
  $("record").addEventListener("change", () => told(() => open($("record").value)));
  await told(() => open(name));
  await flush();
}

async function told(run) {
  try { await run(); } catch (error) { say(error.message, true); }
}
onSaved(poll);
told(begin);
