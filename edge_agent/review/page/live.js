// Every stream sweeping across paper, drawn column by column; what is old says so.
import { get } from "/static/api.js";
import { fit, grid, label, pxPerMm } from "/static/paper.js";

const $ = (id) => document.getElementById(id);
const MM_PER_S = 25;
const DELAY_S = 0.35; // behind the newest sample: frames come ten times a second, and not evenly
const OLD_S = 3;
const GAP_PX = 18;
const ROW_PX = 104;
const ROWS = 3;
const ORDER = ["ecg", "abp", "pleth"];
const KEEP_S = 4;
const RANK = { high: 0, medium: 1, low: 2 };
const MARKS = { high: "▲▲▲ HIGH", medium: "▲▲ MEDIUM", low: "▲ LOW" };

const streams = new Map();
let heard = 0;
let lostFrames = 0;
let drawn = 0;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

class Stream {
  constructor(about) {
    this.name = about.name;
    this.fs = about.fs;
    const kinds = ORDER.map((kind) => (about.signals || []).filter((signal) => signal.kind === kind));
    const firsts = kinds.flatMap((of) => of.slice(0, 1));
    const rest = kinds.flatMap((of) => of.slice(1));
    this.signals = [...firsts, ...rest].slice(0, ROWS).sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
    this.canvas = element("canvas", { role: "img", "aria-label": `${about.name}: signal, sweeping; heart rate and alarms stand beside it as text` });
    this.canvas.style.height = `${ROW_PX * Math.max(1, this.signals.length)}px`;
    const names = this.signals.map((signal, row) => {
      const made = element("span", { class: "channel", text: `${signal.name} (${signal.unit || "no unit"})` });
      made.style.top = `${row * ROW_PX + 18}px`;
      return made;
    });
    this.alarms = element("ul", { class: "alarms" });
    this.vitals = element("div", { class: "vitals" });
    this.facts = element("span", { class: "small" });
    this.box = element("section", { class: "stream", "aria-label": `Stream ${about.name}` },
      element("div", { class: "head" }, element("h2", { text: about.name }), this.facts),
      element("div", { role: "alert", "aria-label": `Alarms of ${about.name}` }, this.alarms),
      element("div", {}, element("div", { class: "screen" }, this.canvas, ...names), this.vitals));
    this.data = new Map(this.signals.map((signal) => [signal.name, new Map()]));
    this.pieces = [];
    this.newest = -1;
    this.head = null;
    this.beats = new Map();
    this.last = new Map();
    this.middle = new Map();
    this.active = new Map();
    this.said = "";
  }

  take(first, data) {
    const piece = { first, length: 0, values: new Map() };
    for (const signal of this.signals) {
      if (!data[signal.name]) continue;
      const raw = Uint8Array.from(atob(data[signal.name]), (char) => char.charCodeAt(0));
      const whole = new Int16Array(raw.buffer);
      piece.length = whole.length;
      piece.values.set(signal.name, whole);
    }
    this.pieces.push(piece);
    const end = first + piece.length;
    if (this.head === null || first > this.newest + this.fs) { this.head = first; this.last.clear(); }
    this.newest = end;
    while (this.pieces.length && this.pieces[0].first + this.pieces[0].length < this.newest - KEEP_S * this.fs) this.pieces.shift();
  }

  draw(elapsed) {
    if (this.head === null || !this.fs) return;
    const target = this.newest - DELAY_S * this.fs;
    let to = this.head + elapsed * this.fs;
    if (to < target - 2 * this.fs) to = target; // hidden for a while, or a burst: no catching up sample by sample
    else to += (target - to) * 0.05;
    to = Math.min(to, this.newest);
    if (to <= this.head) return;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const fresh = this.canvas.width !== Math.round(this.canvas.clientWidth * ratio) || this.canvas.height !== Math.round(this.canvas.clientHeight * ratio);
    const { context, width, height } = fresh ? fit(this.canvas) : { context: this.context, width: this.width, height: this.height };
    if (fresh) {
      Object.assign(this, { context, width, height });
      context.clearRect(0, 0, width, height);
      grid(context, width, height, pxPerMm());
      this.last.clear();
    }
    const mm = pxPerMm();
    const pxPerSample = (MM_PER_S * mm) / this.fs;
    const x = (sample) => (sample * pxPerSample) % width;
    this.clear(x(this.head), (to - this.head) * pxPerSample + GAP_PX, mm);
    this.signals.forEach((signal, row) => this.trace(signal, row, x, to, mm));
    for (const [sample, beat] of this.beats) {
      if (sample < this.head - 0.6 * width / pxPerSample) this.beats.delete(sample);
      else if (!beat.drawn && sample < to - 0.2 * this.fs) { // the class comes after the beat: it is written where the beat is
        if (beat.label !== undefined || sample < to - 1.5 * this.fs) { label(context, beat.label || null, x(sample), 14, false); beat.drawn = true; }
      }
    }
    this.head = to;
  }

  clear(from, wide, mm) {
    const { context, width, height } = this;
    const part = (left, right) => {
      if (right <= left) return;
      context.save();
      context.beginPath();
      context.rect(left, 0, right - left, height);
      context.clip();
      context.clearRect(left, 0, right - left, height);
      grid(context, width, height, mm);
      context.restore();
    };
    part(from + 1, Math.min(width, from + wide));
    if (from + wide > width) part(0, from + wide - width);
  }

  trace(signal, row, x, to, mm) {
    const { context, width } = this;
    const perUnit = (signal.unit === "mmHg" ? 0.5 : 10) * mm / signal.scale;
    const known = this.middle.get(signal.name);
    context.strokeStyle = signal.kind === "ecg" ? "#14171c" : signal.kind === "abp" ? "#9c1c1c" : "#0b5fa5";
    context.lineWidth = 1.4;
    context.beginPath();
    let last = this.last.get(signal.name);
    let sum = 0;
    let count = 0;
    let low = Infinity;
    let high = -Infinity;
    for (const piece of this.pieces) {
      const values = piece.values.get(signal.name);
      if (!values) continue;
      for (let i = Math.max(0, Math.ceil(this.head) - piece.first); i < piece.length && piece.first + i < to; i += 1) {
        const value = values[i];
        if (value === -32768) { last = undefined; continue; }
        sum += value; count += 1;
        low = Math.min(low, value); high = Math.max(high, value);
        const base = known ?? value;
        const at = { x: x(piece.first + i), y: Math.min((row + 1) * ROW_PX - 2, Math.max(row * ROW_PX + 2, (row + 0.58) * ROW_PX - (value - base) * (signal.unit ? perUnit : known === undefined ? 0 : 60 / Math.max(1, this.spread?.get(signal.name) || 1))) ) };
        if (last && at.x >= last.x && at.x - last.x < width / 2) { context.moveTo(last.x, last.y); context.lineTo(at.x, at.y); }
        last = at;
      }
    }
    context.stroke();
    this.last.set(signal.name, last);
    if (count) {
      const now = sum / count;
      this.middle.set(signal.name, known === undefined ? now : known + (now - known) * Math.min(0.2, count / this.fs / 3));
      this.spread = this.spread || new Map();
      this.spread.set(signal.name, Math.max((this.spread.get(signal.name) || 0) * 0.999, high - low));
    }
  }

  event(event) {
    if (event.kind === "beat") this.beats.set(event.sample, { label: undefined, drawn: false });
    else if (event.kind === "verdict" && event.task === "ecg-beat") {
      const beat = this.beats.get(event.sample);
      if (beat) beat.label = event.label;
    } else if (event.kind === "alarm") {
      if (event.state === "raised" || event.state === "updated") this.active.set(event.id, event);
      else this.active.delete(event.id);
      this.banners();
    }
  }

  banners() {
    const sorted = [...this.active.values()].sort((a, b) => (RANK[a.priority] ?? 3) - (RANK[b.priority] ?? 3)).slice(0, 8);
    const said = JSON.stringify(sorted);
    if (said === this.said) return; // what is said again is read out again
    this.said = said;
    this.alarms.replaceChildren(...sorted.map((alarm) => {
      const evidence = Object.entries(alarm.evidence || {}).map(([key, value]) => `${key.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
      const item = element("li", { class: alarm.priority, "data-alarm": alarm.alarm });
      item.append(`${MARKS[alarm.priority] || alarm.priority}: ${alarm.alarm.replaceAll("_", " ")}${alarm.silenced ? " (silenced)" : ""} `);
      item.append(element("a", { href: alarm.strip, target: "_blank", rel: "noopener", text: "strip" }));
      item.append(element("small", { text: `${alarm.time ? new Date(alarm.time).toLocaleTimeString() : ""} ${alarm.channel || ""} ${evidence}` }));
      return item;
    }));
  }

  state(now) {
    this.active = new Map(now.alarms.map((alarm) => [alarm.id, alarm]));
    this.banners();
    const { vitals } = now;
    const show = (value) => (value === null || value === undefined ? "–" : Math.round(value));
    const large = (value, name) => element("div", {}, element("b", { text: value }), element("span", { text: name }));
    const rows = [large(show(vitals.heart_rate_per_min), "heart rate /min")];
    if (this.signals.some((signal) => signal.kind === "abp")) {
      rows.push(large(`${show(vitals.systolic_mmhg)}/${show(vitals.diastolic_mmhg)}`, `mmHg, mean ${show(vitals.mean_mmhg)}`));
    }
    if (this.signals.some((signal) => signal.kind !== "ecg")) rows.push(element("span", { text: `pulse ${show(vitals.pulse_rate_per_min)} /min` }));
    if (now.rhythm) rows.push(element("span", { text: `rhythm ${now.rhythm}` }));
    this.vitals.replaceChildren(...rows);
    const quality = Object.entries(now.quality).map(([name, one]) => `${name} ${one.good ? "good" : `bad: ${one.reasons.join(", ")}`}`).join("; ");
    const ms = (name) => (now.latency[name] === null || now.latency[name] === undefined ? null : `${name.replace("_ms", "")} ${Math.round(now.latency[name])} ms`);
    const latency = ["algorithm_ms", "queue_ms", "compute_ms"].map(ms).filter(Boolean).join(", ");
    const backends = [...new Set(Object.values(now.backends))].join(", ");
    const old = now.state !== "online" || now.age_s === null || now.age_s > OLD_S;
    const age = now.age_s === null ? "no signal yet" : old ? `NO SIGNAL for ${Math.round(now.age_s)} s` : "";
    const lost = now.overwritten ? `${now.overwritten} samples not shown` : "";
    this.facts.textContent = [now.state, age, quality, latency, backends, lost].filter(Boolean).join(" · ");
    this.box.classList.toggle("old", old);
    this.facts.classList.toggle("error", old);
  }
}

function hello(said) {
  $("device").textContent = said.device;
  document.title = `${said.device} – live`;
  for (const about of said.streams) {
    const before = streams.get(about.name);
    if (before && before.fs === about.fs && before.signals.length) { before.head = null; before.pieces = []; continue; }
    const made = new Stream(about);
    if (before) before.box.replaceWith(made.box); else $("streams").append(made.box);
    streams.set(about.name, made);
  }
  states(said.state);
}

function states(now) {
  for (const [name, one] of Object.entries(now.streams)) streams.get(name)?.state(one);
  $("engine").textContent = now.engine ? `models on ${now.engine.state === "degraded" ? `DEGRADED: ${now.engine.reason}` : now.engine.state}` : "";
}

let source;
let begun = 0;
function connect() {
  source?.close();
  begun = performance.now();
  source = new EventSource("/api/live");
  source.addEventListener("hello", (event) => { arrived(); hello(JSON.parse(event.data)); document.body.dataset.ready = "live"; });
  source.addEventListener("frame", (event) => {
    arrived();
    const frame = JSON.parse(event.data);
    for (const [name, wave] of Object.entries(frame.waves)) {
      const stream = streams.get(name);
      if (!stream || !stream.signals.length) { connect(); return; } // a stream that came later: its channels are in the greeting
      stream.take(wave.first, wave.data);
    }
    for (const one of frame.events) streams.get(one.stream)?.event(one);
    if (frame.state) states(frame.state);
  });
  source.addEventListener("lost", (event) => { lostFrames = JSON.parse(event.data).frames; });
}

function arrived() {
  heard = performance.now();
  document.body.dataset.frames = String(Number(document.body.dataset.frames || 0) + 1);
}

setInterval(() => {
  const silent = (performance.now() - (heard || begun)) / 1000;
  const old = silent > OLD_S;
  $("stale").hidden = !old;
  document.body.classList.toggle("old", old);
  $("link").textContent = old ? "not connected" : `connected${lostFrames ? `, ${lostFrames} frames lost: this browser or its link is too slow` : ""}`;
  if (old) {
    $("stale").textContent = heard ? `NO CONNECTION: what you see is ${Math.round(silent)} s old. Connecting again …` : "No answer from the agent yet. Connecting again …";
    if (source.readyState === EventSource.CLOSED || (silent > 10 && performance.now() - begun > 10000)) connect();
  }
}, 500);

let before = performance.now();
function frame(now) {
  const elapsed = Math.min(0.5, (now - before) / 1000);
  before = now;
  for (const stream of streams.values()) stream.draw(elapsed);
  drawn += 1;
  document.body.dataset.drawn = String(drawn);
  requestAnimationFrame(frame);
}
connect();
requestAnimationFrame(frame);
get("/api/about").then((about) => { $("to-review").hidden = !about.records.length; }).catch(() => {});
