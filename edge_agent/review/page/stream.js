// One stream on the live page: its name and state, its alarms, its trace, its figures.
import { shown } from "/static/api.js";
import { Sweep, height } from "/static/sweep.js";

const ROWS = 3;
const ORDER = ["ecg", "abp", "pleth"];
const RANK = { high: 0, medium: 1, low: 2 };
const MARKS = { high: "▲▲▲ HIGH", medium: "▲▲ MEDIUM", low: "▲ LOW" };
export const OLD_S = 3;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = shown(value); else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function say(where, words) {
  if (where.textContent !== words) where.textContent = words;
}

const whole = (value) => (value === null || value === undefined ? "–" : String(Math.round(value)));

export class Stream {
  constructor(about) {
    this.name = about.name;
    this.fs = about.fs;
    const kinds = ORDER.map((kind) => (about.signals || []).filter((signal) => signal.kind === kind));
    const firsts = kinds.flatMap((of) => of.slice(0, 1));
    const rest = kinds.flatMap((of) => of.slice(1));
    this.signals = [...firsts, ...rest].slice(0, ROWS).sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
    this.kinds = new Map((about.signals || []).map((signal) => [signal.name, signal.kind]));
    this.canvas = element("canvas", { role: "img", "aria-label": `${shown(about.name)}: signal, sweeping; heart rate and alarms stand beside it as text` });
    this.canvas.style.height = `${height(this.signals.length)}px`;
    this.names = element("div", { class: "names" }, ...this.signals.map((signal) => element("div", { class: signal.kind },
      element("b", { text: signal.name }), element("span", { text: signal.unit === "NU" ? "no unit" : signal.unit || "no unit" }))));
    this.alarms = element("ul", { class: "alarms" });
    this.facts = element("span", { class: "small" });
    this.figures = {};
    this.vitals = element("div", { class: "vitals" }, ...this.numbers());
    this.box = element("section", { class: "stream", "aria-label": `Stream ${shown(about.name)}` },
      element("div", { class: "head" }, element("h2", { text: about.name }), this.facts),
      element("div", { role: "alert", "aria-label": `Alarms of ${shown(about.name)}` }, this.alarms),
      element("div", { class: "row" }, this.names, element("div", { class: "screen" }, this.canvas), this.vitals));
    this.sweep = new Sweep(this.canvas, this.signals, this.fs);
    this.active = new Map();
    this.said = "";
  }

  numbers() {
    const has = (kind) => this.signals.some((signal) => signal.kind === kind);
    const figure = (key, name, kind) => {
      this.figures[key] = element("b", { text: "–" });
      this.figures[`${key}_name`] = element("span", { text: name });
      return element("div", { class: kind }, this.figures[key], this.figures[`${key}_name`]);
    };
    this.figures.rhythm = element("span");
    return [
      figure("rate", "heart rate /min", "ecg"),
      ...(has("abp") ? [figure("pressure", "mmHg", "abp")] : []),
      ...(has("abp") || has("pleth") ? [figure("pulse", "pulse /min", has("pleth") ? "pleth" : "abp")] : []),
      element("div", {}, this.figures.rhythm),
    ];
  }

  take(first, data) {
    this.sweep.take(first, this.signals.map((signal) => {
      if (!data[signal.name]) return null;
      const text = atob(data[signal.name]);
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
      return new Int16Array(bytes.buffer);
    }));
  }

  event(event) {
    if (event.kind === "beat") { if (this.kinds.get(event.channel) !== "abp") this.sweep.beat(event.sample); }
    else if (event.kind === "verdict" && event.task === "ecg-beat") this.sweep.judged(event.sample, event.label);
    else if (event.kind === "alarm") {
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
      const item = element("li", { class: alarm.priority, "data-alarm": alarm.alarm },
        `${MARKS[alarm.priority] || alarm.priority}: ${alarm.alarm.replaceAll("_", " ")}${alarm.silenced ? " (silenced)" : ""} `,
        element("a", { href: alarm.strip, target: "_blank", rel: "noopener", text: "strip", "aria-label": `strip of ${alarm.alarm.replaceAll("_", " ")}` }));
      const at = alarm.time ? new Date(alarm.time).toLocaleTimeString([], { hour12: false }) : "";
      item.append(element("small", { text: [at, alarm.channel, evidence(alarm.evidence)].filter(Boolean).join(" · ") }));
      return item;
    }));
  }

  state(now) {
    this.active = new Map(now.alarms.map((alarm) => [alarm.id, alarm]));
    this.banners();
    const { vitals } = now;
    say(this.figures.rate, whole(vitals.heart_rate_per_min));
    if (this.figures.pressure) {
      say(this.figures.pressure, `${whole(vitals.systolic_mmhg)}/${whole(vitals.diastolic_mmhg)}`);
      say(this.figures.pressure_name, `mmHg, mean ${whole(vitals.mean_mmhg)}`);
    }
    if (this.figures.pulse) say(this.figures.pulse, whole(vitals.pulse_rate_per_min));
    const old = now.state !== "online" || now.age_s === null || now.age_s > OLD_S;
    const known = (words) => (old && words ? `${words.split(" ")[0].replace(":", "")} –` : words); // what was last seen is no news of now
    say(this.figures.rhythm, known(now.rhythm ? `rhythm ${now.rhythm}` : ""));
    const bad = Object.entries(now.quality).filter(([, one]) => !one.good).map(([name, one]) => `${shown(name)} ${one.reasons.map((why) => why.replaceAll("_", " ")).join(", ") || "bad"}`);
    const quality = bad.length ? `quality: ${bad.join("; ")}` : Object.keys(now.quality).length ? "quality good" : "";
    const ms = ["algorithm_ms", "queue_ms", "compute_ms"].map((name) => now.latency[name]).filter((value) => typeof value === "number");
    const latency = ms.length ? `delay ${Math.round(ms.reduce((a, b) => a + b))} ms` : "";
    this.facts.title = ["algorithm", "queue", "compute"].map((name) => `${name} ${old ? "–" : whole(now.latency[`${name}_ms`])} ms`).join(", ");
    const backends = [...new Set(Object.values(now.backends))].join(", ");
    const age = now.age_s === null ? "no signal yet" : old ? `NO SIGNAL for ${Math.round(now.age_s)} s` : "";
    const lost = now.overwritten ? `${now.overwritten} samples not shown` : "";
    say(this.facts, [now.state, age, known(quality), known(latency), backends, lost].filter(Boolean).join(" · "));
    this.box.classList.toggle("old", old);
    this.facts.classList.toggle("error", old);
  }
}

// What the alarm was raised for, in words: "silent 4.8 s, pulses 0".
function evidence(found) {
  return Object.entries(found || {}).map(([key, value]) => {
    const unit = { _s: " s", _ms: " ms", _mmhg: " mmHg", _per_min: " /min", _mv: " mV" };
    const ending = Object.keys(unit).find((one) => key.endsWith(one)) || "";
    const name = (ending ? key.slice(0, -ending.length) : key).replaceAll("_", " ");
    const text = Array.isArray(value) ? value.join(", ") : typeof value === "object" && value ? JSON.stringify(value) : typeof value === "number" ? String(Math.round(value * 100) / 100) : String(value).replaceAll("_", " ");
    return `${name} ${text}${unit[ending] || ""}`;
  }).join(", ");
}
