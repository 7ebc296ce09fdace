// Paper grid true to scale, classes by shape, letter and colour, and time as text.
export const CLASSES = {
  N: { colour: "#3d4450", name: "normal" },
  S: { colour: "#0b5fa5", name: "supraventricular" },
  V: { colour: "#b02a00", name: "ventricular" },
  F: { colour: "#7a2f86", name: "fusion" },
  Q: { colour: "#000000", name: "unclassifiable" },
};
const CSS_PX_PER_MM = 96 / 25.4;

// Browsers take a pixel for 1/96 inch, which screens are not: the person may measure it once.
export function pxPerMm() {
  const set = Number(localStorage.getItem("edge-review-px-per-mm"));
  return set > 1 && set < 40 ? set : CSS_PX_PER_MM;
}

export function setPxPerMm(value) {
  localStorage.setItem("edge-review-px-per-mm", String(value));
}

export function fit(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

// Lines every mm (faint) and every 5 mm; offset: px of the first 5-mm line to the left of x = 0.
export function grid(context, width, height, mm, offset = 0) {
  const lines = (step, colour, thick) => {
    if (step < 3) return;
    context.beginPath();
    for (let x = -(((offset % step) + step) % step); x <= width; x += step) {
      context.moveTo(x, 0);
      context.lineTo(x, height);
    }
    for (let y = 0; y <= height; y += step) {
      context.moveTo(0, y);
      context.lineTo(width, y);
    }
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.stroke();
  };
  lines(mm, "#f8e3df", 0.6);
  lines(mm * 5, "#eab7ae", 1);
}

export function label(context, letter, x, y, person) {
  const colour = letter ? CLASSES[letter].colour : "#454b57";
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  const shape = { S: 3, V: 4, F: 4, Q: 0 }[letter];
  if (shape !== undefined) {
    context.beginPath();
    if (letter === "V") context.rect(x - 9, y - 9, 18, 18);
    else if (letter === "S") { context.moveTo(x, y - 13); context.lineTo(x + 11, y + 9); context.lineTo(x - 11, y + 9); context.closePath(); }
    else if (letter === "F") { context.moveTo(x, y - 13); context.lineTo(x + 12, y); context.lineTo(x, y + 13); context.lineTo(x - 12, y); context.closePath(); }
    else context.arc(x, y, 10, 0, 7);
    context.stroke();
  }
  context.font = `${person ? "bold " : ""}13px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(letter || "·", x, y + 1);
  if (person) {
    context.fillRect(x - 7, y + 12, 14, 2.5);
  }
}

export function clock(seconds) {
  const whole = Math.max(0, seconds);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two((whole / 60) % 60)}:${(whole % 60).toFixed(2).padStart(5, "0")}`;
}
