// Why a class, pictures and files.
import { get, post, text } from "/static/api.js";
import { redraw } from "/static/draw.js";
import { setPxPerMm } from "/static/paper.js";
import { $, say, span, state } from "/static/state.js";

export async function explain() {
  if (!state.selected) { say("select a beat first"); return; }
  say("asking the model with parts of the beat blanked …");
  try {
    state.why = await get("/api/explain", { record: state.record, sample: state.selected.sample });
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

export async function picture(kind) {
  const first = Math.max(0, Math.floor(state.first));
  const end = Math.min(state.about.samples, Math.floor(first + Math.min(span(), 120 * state.about.fs)));
  const svg = await text("/api/strip.svg", { record: state.record, first, end });
  const blob = new Blob([svg], { type: "image/svg+xml" });
  const name = `${state.record.replace(/[^A-Za-z0-9_-]/g, "_")}-${first}`;
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

export async function exported() {
  const done = await post("/api/export", { record: state.record });
  document.body.dataset.exported = done.annotations;
  say(`exported ${done.beats} beats (${done.corrected} by a person) to ${done.annotations}; ${done.marks ? `${done.artefacts} artefacts to ${done.marks}` : "no segment was decided"}`);
}

export function measure() {
  const said = prompt("Hold a bank card (85.6 mm) against the screen: how many millimetres is the blue frame around this button row wide?", "");
  const mm = Number(said);
  if (mm > 10) { setPxPerMm(document.querySelector(".bar").clientWidth / mm); redraw(); }
}
