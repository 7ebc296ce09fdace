// The signal in tiles of min and max, fetched as they come into view, the neighbours beforehand.
import { bytes } from "/static/api.js";

const MOST = 300;
const AGAIN_MS = 400;

export class Tiles {
  constructor(record, about, changed) {
    this.record = record;
    this.about = about;
    this.changed = changed;
    this.kept = new Map();
    this.asked = new Set();
  }

  level(samplesPerPx) {
    const { levels, step } = this.about;
    return Math.max(0, Math.min(levels - 1, Math.floor(Math.log(Math.max(1, samplesPerPx)) / Math.log(step))));
  }

  tile(level, index) {
    const key = `${level}:${index}`;
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
      if (!found.whole && performance.now() > found.at + AGAIN_MS) this.fetch(key, level, index);
      return found;
    }
    this.fetch(key, level, index);
    return null;
  }

  async fetch(key, level, index) {
    const width = this.about.step ** level;
    if (index < 0 || index * this.about.tile * width >= this.about.samples || this.asked.has(key) || this.asked.size > 12) return;
    this.asked.add(key);
    try {
      const { whole, data } = await bytes("/api/tile", { record: this.record, level, index });
      const values = new Float32Array(data);
      const channels = this.about.signals.length;
      const layers = level === 0 ? 1 : 2;
      const count = values.length / channels / layers;
      this.kept.set(key, { values, count, layers, whole, at: performance.now() });
      while (this.kept.size > MOST) this.kept.delete(this.kept.keys().next().value);
      this.changed();
    } catch {
      setTimeout(() => this.changed(), 1000); // asked for again when it is drawn again
    } finally {
      this.asked.delete(key);
    }
  }

  // Draws one channel; y(value) gives the height of a value. Returns whether everything was there.
  draw(context, channel, first, samplesPerPx, width, y) {
    const level = this.level(samplesPerPx);
    const bucket = this.about.step ** level;
    const { tile: size } = this.about;
    const from = Math.floor(first / bucket / size);
    const to = Math.floor((first + width * samplesPerPx) / bucket / size);
    let complete = true;
    context.beginPath();
    context.fillStyle = context.strokeStyle;
    const wide = bucket / samplesPerPx;
    let before = [0, 0];
    let pen = false;
    for (let index = Math.max(0, from); index <= to; index += 1) {
      const tile = this.tile(level, index);
      if (!tile) {
        complete = index * size * bucket >= this.about.samples && complete;
        pen = false;
        continue;
      }
      const low = channel * tile.layers * tile.count;
      const high = low + (tile.layers - 1) * tile.count;
      const begin = Math.max(0, Math.floor(first / bucket) - index * size - 1);
      const end = Math.min(tile.count, Math.ceil((first + width * samplesPerPx) / bucket) - index * size + 1);
      for (let i = begin; i < end; i += 1) {
        const a = tile.values[low + i];
        if (Number.isNaN(a)) { pen = false; continue; }
        const x = ((index * size + i) * bucket - first) / samplesPerPx;
        if (tile.layers === 2) { // bars: a path of thousands of corners would take a slow machine a tenth of a second
          let top = y(tile.values[high + i]);
          let floor = y(a);
          if (pen) { top = Math.min(top, before[1]); floor = Math.max(floor, before[0]); }
          before = [y(tile.values[high + i]), y(a)];
          context.fillRect(x, top - 0.5, Math.max(1, wide), Math.max(1.2, floor - top));
          pen = true;
          continue;
        }
        if (pen) context.lineTo(x, y(a)); else context.moveTo(x, y(a));
        pen = true;
      }
    }
    context.stroke();
    this.tile(level, to + 1);
    if (from > 0) this.tile(level, from - 1);
    return complete;
  }

  // The middle of what is in view, for a channel: where its baseline lies. Null until something is there.
  range(channel, first, samplesPerPx, width) {
    const level = this.level(samplesPerPx);
    const bucket = this.about.step ** level;
    const { tile: size } = this.about;
    const seen = [];
    const from = Math.max(0, Math.floor(first / bucket));
    const to = Math.floor((first + width * samplesPerPx) / bucket);
    const stride = Math.max(1, Math.floor((to - from) / 400));
    for (let i = from; i < to; i += stride) {
      const tile = this.kept.get(`${level}:${Math.floor(i / size)}`);
      if (!tile) continue;
      const at = i % size;
      const low = tile.values[channel * tile.layers * tile.count + at];
      const high = tile.values[channel * tile.layers * tile.count + (tile.layers - 1) * tile.count + at];
      if (!Number.isNaN(low) && at < tile.count) seen.push(low, high);
    }
    if (!seen.length) return null;
    seen.sort((a, b) => a - b);
    return { low: seen[0], high: seen[seen.length - 1], middle: seen[seen.length >> 1] };
  }
}
