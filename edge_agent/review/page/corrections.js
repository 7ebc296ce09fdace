// Corrections: kept in the browser until the server has them on its disk.
import { Failed, post, shown, token } from "/static/api.js";
import { clock } from "/static/paper.js";
import { $, say, state } from "/static/state.js";
import { centre, load } from "/static/view.js";

const PENDING = "edge-review-pending";
let after = () => undefined;
export const onSaved = (run) => { after = run; };

// What is not answered yet is kept in the browser: it is sent again after a crash, and done once, by its token.
const pending = () => JSON.parse(localStorage.getItem(PENDING) || "[]");
const keep = (ops) => localStorage.setItem(PENDING, JSON.stringify(ops));
let sending = false;

// Wishes on the same beat or stretch that were kept while this one had no answer: their author knew it, so they come after it.
const about = ({ record, id, first, end, channel }) => JSON.stringify([record, id, first, end, channel]);
const followed = (ops, body, seq) => ops.map((one) => (
  body.base !== undefined && one.body.base === body.base && about(one.body) === about(body) ? { ...one, body: { ...one.body, base: seq } } : one));

function who() {
  const name = $("who").value.trim();
  if (!name) {
    say("say who you are first: every correction is kept with a name", true);
    $("who").focus();
    return null;
  }
  return name;
}

export async function correct(wish, then) {
  const name = who();
  if (!name) return;
  keep([...pending(), { path: "/api/correct", body: { record: state.record, token: token(), who: name, ...wish } }]);
  await flush(then);
}

export async function flush(then) {
  if (sending) return;
  sending = true;
  try {
    for (let ops = pending(); ops.length; ops = pending()) {
      const { path, body } = ops[0];
      let done;
      try {
        done = await post(path, body);
      } catch (error) {
        if (!(error instanceof Failed) || error.status >= 500 || error.status === 401) throw error;
        keep(pending().slice(1));
        if (error.status === 409) conflict(body, error.said.latest);
        else say(error.message, true);
        continue;
      }
      keep(followed(pending().slice(1), body, done.operation.seq));
      saved(done);
    }
    if (then) await then();
  } catch (error) {
    say(`not saved yet (${error.message}); kept in this browser and tried again`, true);
    setTimeout(() => flush(), 2000);
  } finally {
    sending = false;
  }
  if (!state.about) return; // none could be opened, and why stands there
  await load(true);
  after();
}

function saved({ operation, target }) {
  const one = target || operation;
  document.body.dataset.saved = String(operation.seq);
  say(`saved: ${operation.act}${target ? ` of ${target.act}` : ""}${one.label ? ` ${one.label}` : ""}${one.sample === undefined || one.sample === null ? "" : ` at ${clock(one.sample / state.about.fs)}`}`);
  if (operation.act === "add") state.selected = { ...operation, id: operation.thing, model: null, score: null, reference: null, deleted: false };
  if (target && target.sample !== undefined && target.sample !== null) centre(target.sample);
}

function conflict(body, latest) {
  $("conflict").hidden = false;
  const what = latest.label || (latest.act === "delete" ? "deleted" : latest.act);
  $("conflict-text").textContent = `${shown(latest.who)} has changed it meanwhile, to ${what}.`;
  $("mine").onclick = () => { $("conflict").hidden = true; const { record: _r, token: _t, who: _w, base: _b, ...wish } = body; correct({ ...wish, base: latest.seq }); };
  $("theirs").onclick = () => { $("conflict").hidden = true; };
  $("mine").focus();
}

// The beat as it will be once all that was asked for is saved: a server that does not answer must not turn a later wish back.
const asWished = (beat) => pending().map((one) => one.body).filter((body) => body.record === state.record && body.id === beat.id)
  .reduce((known, { sample, label }) => ({ ...known, sample, label: label || known.label }), beat);

// more: what differs from the beat as it is, given that beat.
export const onBeat = (act, more = () => ({}), then = undefined) => {
  if (!state.selected) { say("select a beat first"); return undefined; }
  const beat = asWished(state.selected);
  return correct({ act, id: beat.id, sample: beat.sample, base: beat.seq, label: act === "delete" ? null : beat.label || "Q", ...more(beat) }, then);
};

export async function again(act) {
  const name = who();
  if (!name) return;
  keep([...pending(), { path: "/api/step", body: { record: state.record, token: token(), who: name, act } }]);
  await flush();
}
