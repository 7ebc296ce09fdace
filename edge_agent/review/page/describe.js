// What is selected, in words beside the trace.
import { shown } from "/static/api.js";
import { redraw } from "/static/draw.js";
import { CLASSES, clock } from "/static/paper.js";
import { $, span, state } from "/static/state.js";

export function refresh() {
  if (state.selected) state.selected = state.beats.find((beat) => beat.id === state.selected.id) || state.selected;
  const at = state.selected ? state.selected.sample : state.first + span() / 2;
  state.segment = state.segment && state.segments.find((one) => one.first === state.segment.first && one.channel === state.segment.channel);
  if (!state.segment || $("filter").value !== "segments") state.segment = state.segments.find((one) => one.first <= at && at < one.end) || state.segment;
  describe();
  redraw();
}

export function list(element, pairs) {
  element.replaceChildren(...pairs.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    term.textContent = name;
    const said = document.createElement("dd");
    said.textContent = shown(value);
    return [term, said];
  }));
}

export function describe() {
  const beat = state.selected;
  list($("beat"), !beat ? [["", "none selected"]] : [
    ["at", `${clock(beat.sample / state.about.fs)} (sample ${beat.sample})`],
    ["class", beat.deleted ? "deleted" : `${beat.label || "none"} ${beat.label ? CLASSES[beat.label].name : ""}`],
    ["model", beat.model ? `${beat.model}, score ${beat.score === null ? "-" : beat.score.toFixed(2)}` : "said nothing"],
    ["person", beat.act ? `${beat.act}, ${beat.who}, ${when(beat.at)}` : "-"],
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
    ["person", one.artefact === null ? "-" : `${one.artefact ? "artefact" : "not an artefact"}, ${one.who}, ${when(one.at)}`],
  ]);
  $("alarms").replaceChildren(...state.alarms.filter((alarm) => alarm.sample < state.first + span() && (alarm.until === null || alarm.until >= state.first))
    .slice(0, 30).map((alarm) => {
      const item = document.createElement("li");
      const evidence = Object.entries(alarm.evidence).map(([key, value]) => `${key} ${value}`).join(", ");
      item.textContent = shown(`▲ ${alarm.kind.replaceAll("_", " ")} (${alarm.priority}, ${alarm.state}) ${clock(alarm.sample / state.about.fs)}${evidence ? `: ${evidence}` : ""}`);
      return item;
    }));
}

// Of the person's own clock, to the second.
const when = (at) => new Date(at).toLocaleString([], { dateStyle: "short", timeStyle: "medium", hour12: false });
