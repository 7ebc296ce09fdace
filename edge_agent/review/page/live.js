// Every stream, live; what is old says so.
import { get, shown } from "/static/api.js";
import { OLD_S, Stream } from "/static/stream.js";

const $ = (id) => document.getElementById(id);
const streams = new Map();
const cost = { frames: 0, recent: new Float32Array(512) }; // ms of drawing, for whoever measures it
window.edgeLive = cost;
let heard = 0;
let lostFrames = 0;

function hello(said) {
  $("device").textContent = shown(said.device);
  document.title = `${shown(said.device)} – live`;
  const named = new Set(said.streams.map((about) => about.name));
  for (const [name, gone] of streams) if (!named.has(name)) { gone.box.remove(); streams.delete(name); } // the agent came back with others
  $("none").hidden = said.streams.length > 0;
  for (const about of said.streams) {
    const before = streams.get(about.name);
    const same = before && before.fs === about.fs && JSON.stringify(before.about) === JSON.stringify(about.signals);
    if (same && before.signals.length) { before.sweep.restart(); continue; }
    const made = new Stream(about);
    made.about = about.signals;
    if (before) before.box.replaceWith(made.box); else $("streams").append(made.box);
    streams.set(about.name, made);
  }
  states(said.state);
}

function states(now) {
  for (const [name, one] of Object.entries(now.streams)) streams.get(name)?.state(one);
  const engine = now.engine ? `models on ${now.engine.state === "degraded" ? `DEGRADED: ${now.engine.reason}` : now.engine.state}` : "";
  $("engine").textContent = engine;
  $("engine").classList.toggle("error", now.engine?.state === "degraded");
  const away = now.broker_away_s;
  $("broker").textContent = away === null || away === undefined ? "" : `MQTT broker away for ${away} s: alarms are shown here and not sent on`;
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
  const words = old ? "not connected" : `connected${lostFrames ? `, ${lostFrames} frames lost: this browser or its link is too slow` : ""}`;
  if ($("link").textContent !== words) $("link").textContent = words;
  if (old) {
    $("stale").textContent = heard ? `NO CONNECTION: what you see is ${Math.round(silent)} s old. Connecting again …` : "No answer from the agent yet. Connecting again …";
    if (source.readyState === EventSource.CLOSED || (silent > 10 && performance.now() - begun > 10000)) connect();
  }
}, 500);

let before = performance.now();
function frame(now) {
  const began = performance.now();
  const elapsed = Math.min(0.5, (now - before) / 1000);
  before = now;
  for (const stream of streams.values()) stream.sweep.draw(elapsed);
  cost.recent[cost.frames % cost.recent.length] = performance.now() - began;
  cost.frames += 1;
  requestAnimationFrame(frame);
}
connect();
requestAnimationFrame(frame);
get("/api/about").then((about) => { $("to-review").hidden = !about.records.length; }).catch(() => {});
