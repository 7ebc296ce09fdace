// What is looked at, and where: one object that the parts of the review page share.
import { pxPerMm } from "/static/paper.js";

export const $ = (id) => document.getElementById(id);
export const state = { record: "", about: null, tiles: null, first: 0, speed: 25, beats: [], segments: [], alarms: [], reviewed: [], loaded: [0, 0], seq: 0, version: -1,
  selected: null, segment: null, cursor: null, overview: null, why: null };
export const canvas = $("trace");
export const samplesPerPx = () => state.about.fs / (state.speed * pxPerMm());
export const span = () => canvas.clientWidth * samplesPerPx();
export const inView = (sample) => sample >= state.first && sample < state.first + span();

export function say(words, wrong = false) {
  $("status").textContent = words;
  $("status").className = wrong ? "error" : "";
}
