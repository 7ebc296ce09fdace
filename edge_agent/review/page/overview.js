// The whole recording at a glance. Drawn when its data change; what a pan moves is the frame around what is in view.
import { CLASSES, fit } from "/static/paper.js";
import { $, span, state } from "/static/state.js";

const picture = document.createElement("canvas");
let drawn = null;

export function drawOverview() {
  const { context, width, height } = fit($("overview"));
  const { overview: whole, about: { samples } } = state;
  const canvas = $("overview");
  if (drawn?.whole !== whole || picture.width !== canvas.width || picture.height !== canvas.height) {
    picture.width = canvas.width;
    picture.height = canvas.height;
    const on = picture.getContext("2d");
    const ratio = canvas.width / Math.max(1, width);
    on.setTransform(ratio, 0, 0, ratio, 0, 0);
    on.fillStyle = "#fff";
    on.fillRect(0, 0, width, height);
    if (whole) graph(on, width, height, whole, samples);
    drawn = { whole };
  }
  context.drawImage(picture, 0, 0, width, height);
  context.strokeStyle = "#0b57a4";
  context.lineWidth = 2;
  const left = Math.max(1, (state.first / samples) * width);
  context.strokeRect(left, 1, Math.max(3, Math.min(width - 1, ((state.first + span()) / samples) * width) - left), height - 2);
}

function graph(context, width, height, whole, samples) {
  const bins = whole.rate.length;
  const wide = width / bins;
  const floor = height - 14;
  const least = 18; // below the legend
  const at = (value) => least + (floor - least) * (1 - (Math.min(200, Math.max(30, value)) - 30) / 170);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const value of [50, 100, 150]) {
    context.fillStyle = "#dfe3ea";
    context.fillRect(0, at(value), width, 1);
    context.fillStyle = "#5b6270";
    context.fillText(String(value), width - 3, at(value) - 6);
  }
  const most = Math.max(1, ...whole.N.map((n, i) => n + whole.S[i] + whole.V[i] + whole.F[i] + whole.Q[i]));
  for (let i = 0; i < bins; i += 1) {
    let y = floor;
    for (const name of ["V", "S", "F", "Q"]) {
      const tall = Math.min(34, Math.sqrt(whole[name][i] / most) * 34);
      if (!tall) continue;
      context.fillStyle = CLASSES[name].colour;
      context.fillRect(i * wide, y - tall, Math.max(1, wide - (wide > 4 ? 1 : 0)), tall);
      y -= tall;
    }
  }
  const line = (values, colour, dash) => {
    context.beginPath();
    let pen = false;
    values.forEach((value, i) => {
      if (value === null) { pen = false; return; }
      if (pen) context.lineTo((i + 0.5) * wide, at(value)); else context.moveTo((i + 0.5) * wide, at(value));
      pen = true;
    });
    context.setLineDash(dash);
    context.strokeStyle = colour;
    context.lineWidth = 1.4;
    context.stroke();
    context.setLineDash([]);
  };
  line(whole.rate, "#16181d", []);
  line(whole.systolic, "#9c1c1c", [5, 2]);
  line(whole.diastolic, "#9c1c1c", [2, 2]);
  context.fillStyle = "#8c0d0d";
  for (const [sample, , priority] of whole.alarms) {
    const x = (sample / samples) * width;
    const tall = { high: 10, medium: 7, low: 4 }[priority] || 4;
    context.beginPath();
    context.moveTo(x, least); context.lineTo(x + tall / 2, least + tall); context.lineTo(x - tall / 2, least + tall);
    context.fill();
  }
  context.fillStyle = "#965a00";
  for (const [first, end] of whole.abnormal) context.fillRect((first / samples) * width, height - 12, Math.max(1, ((end - first) / samples) * width), 5);
  context.fillStyle = "#1d6b3a";
  for (const [first, end] of whole.reviewed) context.fillRect((first / samples) * width, height - 6, Math.max(1, ((end - first) / samples) * width), 4);
  legend(context);
}

// Each kind beside its own mark.
function legend(context) {
  let x = 8;
  const y = 9;
  context.textAlign = "left";
  const item = (text, mark) => {
    mark(x);
    context.fillStyle = "#16181d";
    context.fillText(text, x + 18, y);
    x += 30 + context.measureText(text).width;
  };
  const stroke = (colour, dash) => (left) => {
    context.beginPath();
    context.moveTo(left, y); context.lineTo(left + 14, y);
    context.setLineDash(dash); context.strokeStyle = colour; context.lineWidth = 1.6; context.stroke(); context.setLineDash([]);
  };
  const block = (colour, tall) => (left) => { context.fillStyle = colour; context.fillRect(left + 2, y - tall / 2, 11, tall); };
  item("heart rate /min", stroke("#16181d", []));
  item("pressure mmHg", stroke("#9c1c1c", [5, 2]));
  for (const name of ["V", "S", "F", "Q"]) item(name, block(CLASSES[name].colour, 9));
  item("alarm", (left) => { context.fillStyle = "#8c0d0d"; context.beginPath(); context.moveTo(left + 7, y - 4); context.lineTo(left + 12, y + 4); context.lineTo(left + 2, y + 4); context.fill(); });
  item("abnormal segment", block("#965a00", 5));
  item("looked at", block("#1d6b3a", 4));
}
