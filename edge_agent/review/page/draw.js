// The review page's trace: paper, signal, beats, segments, alarms, time.
import { shown } from "/static/api.js";
import { drawOverview } from "/static/overview.js";
import { Paper, clock, fit, label, pxPerMm } from "/static/paper.js";
import { canvas, inView, samplesPerPx, span, state } from "/static/state.js";

const PAPER_FROM = 6; // mm/s, below which no paper is drawn
const MM_PER_MV = 10;
const MM_PER_MMHG = 0.5;
const LABELS_PX = 44; // above the signal
const FLOOR_PX = 32; // below it: segments and time
const cost = { frames: 0, recent: new Float32Array(512) }; // ms of drawing, for whoever measures it
window.edgeReview = cost;
const paper = new Paper();
let wanted = false;

export function redraw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    const began = performance.now();
    draw();
    cost.recent[cost.frames % cost.recent.length] = performance.now() - began;
    cost.frames += 1;
  });
}

function rows() {
  const { signals } = state.about;
  const known = signals.map((signal, i) => ({ ...signal, i })).filter((signal) => signal.kind !== "other");
  return known.length ? known : signals.map((signal, i) => ({ ...signal, i }));
}

function draw() {
  if (!state.about) return;
  const { context, width, height } = fit(canvas);
  const mm = pxPerMm();
  const spp = samplesPerPx();
  if (state.speed >= PAPER_FROM) paper.draw(context, width, height, mm, (state.first / state.about.fs) * state.speed * mm);
  else { context.fillStyle = "#fffdf9"; context.fillRect(0, 0, width, height); }
  const top = LABELS_PX;
  const bottom = FLOOR_PX;
  const channels = rows();
  const each = (height - top - bottom) / channels.length;
  drawSegments(context, width, height, spp);
  const asked = Math.max(0, channels.findIndex((signal) => signal.name === state.why?.channel));
  drawWhy(context, top + each * (asked + 1) - 2, each); // under the signal that the model saw
  context.strokeStyle = "#14171c";
  context.lineWidth = 1.1;
  context.lineJoin = "round";
  channels.forEach((signal, row) => {
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
    name(context, `${shown(signal.name)} ${signal.unit || "(no unit)"}`, top + each * row + 4);
  });
  drawBeats(context, width, height, spp, bottom);
  drawTime(context, width, height, spp);
  drawOverview();
}

// On a plate of its own, so that no trace runs through it.
function name(context, text, top) {
  context.font = "bold 12px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = "rgb(255 253 249 / 88%)";
  context.fillRect(0, top, context.measureText(text).width + 10, 17);
  context.fillStyle = "#16181d";
  context.fillText(text, 5, top + 9);
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
  let line = 0;
  for (const alarm of state.alarms) {
    if (!inView(alarm.sample)) continue;
    context.fillStyle = "#8c0d0d";
    context.fillRect(x(alarm.sample), LABELS_PX - 8, 1.5, height - bottom - LABELS_PX + 8);
    context.font = "bold 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const text = `▲ ${alarm.kind.replaceAll("_", " ")} (${alarm.priority})`;
    const y = height - bottom - 10 - 16 * (line % 3); // alarms come together: below each other
    context.fillStyle = "rgb(255 253 249 / 88%)";
    context.fillRect(x(alarm.sample) + 2, y - 8, context.measureText(text).width + 4, 16);
    context.fillStyle = "#8c0d0d";
    context.fillText(text, x(alarm.sample) + 4, y);
    line += 1;
  }
}

function drawSegments(context, width, height, spp) {
  const x = (sample) => (sample - state.first) / spp;
  for (const [first, end] of state.reviewed) {
    context.fillStyle = "#1d6b3a";
    context.fillRect(x(first), height - FLOOR_PX, (end - first) / spp, 3);
  }
  for (const one of state.segments) {
    if (one.end < state.first || one.first > state.first + span()) continue;
    const chosen = state.segment && state.segment.first === one.first && state.segment.channel === one.channel;
    const left = x(one.first);
    const wide = (one.end - one.first) / spp;
    if (one.abnormal) {
      context.fillStyle = "rgb(150 90 0 / 13%)";
      context.fillRect(left, LABELS_PX, wide, height - LABELS_PX - FLOOR_PX);
    }
    context.strokeStyle = chosen ? "#0b57a4" : "#7c8492";
    context.lineWidth = chosen ? 2.5 : 0.7;
    context.strokeRect(left + 1, height - 26, wide - 2, 13);
    const said = one.artefact === null ? (one.label || "") : `${one.artefact ? "artefact" : "not artefact"} ✓ ${shown(one.who)}`;
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
