// One stream's trace, sweeping across paper that was drawn once: a frame copies back the paper of the columns it passes, and draws the new samples.
import { grid, label, pxPerMm } from "/static/paper.js";

const MM_PER_S = 25;
const ROW_MM = 25;
export const TOP_MM = 5; // for the beats' classes
const BASE = 0.6; // of a row, from its top: where the middle of the signal lies
const DELAY_S = 0.35; // behind the newest sample: frames come ten times a second, and not evenly
const GAP_MM = 5;
const KEEP_S = 4;
const MISSING = -32768;
const MM_PER_UNIT = { mV: 10, mmHg: 0.5 };
const FREE_MM = 15; // what has neither unit is drawn as tall as this
const COLOURS = { ecg: "#14171c", abp: "#9c1c1c", pleth: "#0b5fa5" };

const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

export const height = (rows) => (TOP_MM + ROW_MM * Math.max(1, rows)) * pxPerMm();

export class Sweep {
  constructor(canvas, signals, fs) {
    Object.assign(this, { canvas, fs, pieces: [], newest: -1, head: null, beats: new Map(), waited: 0 });
    this.rows = signals.map((signal) => ({ ...signal, x: NaN, y: NaN, middle: null, tall: 1 }));
    this.context = canvas.getContext("2d", { alpha: false });
    this.paper = document.createElement("canvas");
    this.stale = true;
    this.seen = true;
    new ResizeObserver(() => { this.stale = true; }).observe(canvas);
    new IntersectionObserver((said) => { this.seen = said[said.length - 1].isIntersecting; if (this.seen) this.stale = true; }).observe(canvas);
  }

  restart() {
    this.head = null;
    this.pieces = [];
    this.beats.clear();
  }

  take(first, values) {
    const length = Math.max(0, ...values.map((one) => (one ? one.length : 0)));
    const end = first + length;
    if (this.head === null || first > this.newest + this.fs || end < this.newest) { this.head = first; this.lift(); }
    this.pieces.push({ first, end, values });
    this.newest = end;
    while (this.pieces.length && this.pieces[0].end < end - KEEP_S * this.fs) this.pieces.shift();
  }

  // One beat, though two leads may say it.
  beat(sample) {
    if (Math.abs(sample - (this.lastBeat ?? -Infinity)) < 0.15 * this.fs) return;
    this.lastBeat = sample;
    this.beats.set(sample, undefined);
  }

  judged(sample, said) { if (this.beats.has(sample)) this.beats.set(sample, said || null); }

  lift() { for (const row of this.rows) row.x = NaN; }

  fit() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.stale = false;
    this.mm = pxPerMm();
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.ratio = ratio;
    for (const one of [this.canvas, this.paper]) {
      one.width = Math.max(1, Math.round(this.width * ratio));
      one.height = Math.max(1, Math.round(this.height * ratio));
    }
    const paper = this.paper.getContext("2d", { alpha: false });
    paper.fillStyle = "#fffdf9";
    paper.fillRect(0, 0, this.paper.width, this.paper.height);
    paper.setTransform(ratio, 0, 0, ratio, 0, 0);
    grid(paper, this.width, this.height, this.mm);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.drawImage(this.paper, 0, 0);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.lift();
  }

  draw(elapsed) {
    if (this.head === null || !this.fs) return;
    this.waited += elapsed;
    if (calm.matches && this.waited < 1) return; // no movement for those who asked for none: once a second
    const passed = this.waited;
    this.waited = 0;
    const target = this.newest - DELAY_S * this.fs;
    let to = this.head + passed * this.fs;
    if (to < target - 2 * this.fs) { to = target; this.head = Math.max(this.head, to - KEEP_S * this.fs); this.lift(); } // hidden for a while, or a burst
    else to += (target - to) * 0.05;
    to = Math.min(to, this.newest);
    if (to <= this.head) return;
    if (!this.seen) { this.head = to; return; }
    if (this.stale) this.fit();
    if (!this.width) return;
    const perSample = (MM_PER_S * this.mm) / this.fs;
    this.clear((this.head * perSample) % this.width, (to - this.head) * perSample + GAP_MM * this.mm);
    this.rows.forEach((row, n) => this.trace(row, n, to, perSample));
    this.name(to, perSample);
    this.head = to;
  }

  clear(from, wide) {
    const { context, ratio, paper } = this;
    const left = Math.floor((from + 1) * ratio);
    const most = paper.width;
    const span = Math.min(most, Math.ceil(wide * ratio));
    context.setTransform(1, 0, 0, 1, 0, 0);
    const part = Math.min(span, most - left);
    if (part > 0) context.drawImage(paper, left, 0, part, paper.height, left, 0, part, paper.height);
    if (span > part) context.drawImage(paper, 0, 0, span - part, paper.height, 0, 0, span - part, paper.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  trace(row, n, to, perSample) {
    const { context, width, mm, head } = this;
    const top = (TOP_MM + ROW_MM * n) * mm;
    const least = top + 1;
    const most = top + ROW_MM * mm - 1;
    const zero = top + ROW_MM * mm * BASE;
    const unit = MM_PER_UNIT[row.unit];
    const per = unit ? (unit * mm) / row.scale : (FREE_MM * mm) / row.tall;
    let { x, y } = row;
    let sum = 0;
    let count = 0;
    let low = Infinity;
    let high = -Infinity;
    context.strokeStyle = COLOURS[row.kind] || COLOURS.ecg;
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.beginPath();
    for (const piece of this.pieces) {
      const values = piece.values[n];
      if (!values || piece.end <= head) continue;
      if (row.middle === null) row.middle = mean(values);
      const begin = Math.max(0, Math.ceil(head) - piece.first);
      const end = Math.min(values.length, Math.ceil(to) - piece.first);
      let pen = false;
      for (let i = begin; i < end; i += 1) {
        const value = values[i];
        if (value === MISSING) { x = NaN; pen = false; continue; }
        sum += value;
        count += 1;
        if (value < low) low = value;
        if (value > high) high = value;
        const across = ((piece.first + i) * perSample) % width;
        const down = Math.min(most, Math.max(least, zero - (value - row.middle) * per));
        if (across < x) pen = false; // around the edge
        else if (x === x) { // not NaN
          if (!pen) { context.moveTo(x, y); pen = true; }
          context.lineTo(across, down);
        }
        x = across;
        y = down;
      }
    }
    context.stroke();
    row.x = x;
    row.y = y;
    if (count) {
      row.middle += (sum / count - row.middle) * Math.min(0.2, count / this.fs / 3);
      row.low = Math.min(low, (row.low ?? low) + (row.tall * count) / this.fs / 8);
      row.high = Math.max(high, (row.high ?? high) - (row.tall * count) / this.fs / 8);
      row.tall = Math.max(1, row.high - row.low);
      if (!unit) row.middle = (row.high + row.low) / 2 + row.tall * (BASE - 0.5);
    }
  }

  // The class comes after the beat: it is written where the beat is.
  name(to, perSample) {
    for (const [sample, said] of this.beats) {
      if (sample < this.head - (0.6 * this.width) / perSample) this.beats.delete(sample);
      else if (sample < to - 0.2 * this.fs && (said !== undefined || sample < to - 1.5 * this.fs)) {
        this.beats.delete(sample);
        label(this.context, said || null, (sample * perSample) % this.width, 0.5 * TOP_MM * this.mm, false, 0.8);
      }
    }
  }
}

function mean(values) {
  let sum = 0;
  let count = 0;
  for (const value of values) if (value !== MISSING) { sum += value; count += 1; }
  return count ? sum / count : null;
}
