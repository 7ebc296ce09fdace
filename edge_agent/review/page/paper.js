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
const SCALE = "edge-review-px-per-mm";
let scale = 0; // asked for in every frame: kept, and read again when another tab has measured
window.addEventListener("storage", (event) => { if (event.key === SCALE) scale = 0; });

export function pxPerMm() {
  if (!scale) {
    const set = Number(localStorage.getItem(SCALE));
    scale = set > 1 && set < 40 ? set : CSS_PX_PER_MM;
  }
  return scale;
}

export function setPxPerMm(value) {
  localStorage.setItem(SCALE, String(value));
  scale = 0;
}

export function fit(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d", { alpha: false }); // nothing of the page shows through: nothing to blend
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

// Paper that moves with time: drawn once, five millimetres too wide, and copied where it is wanted.
export class Paper {
  constructor() { this.sheet = document.createElement("canvas"); this.key = ""; }

  draw(context, width, height, mm, offset) {
    const ratio = context.getTransform().a;
    const big = mm * 5;
    const key = `${width} ${height} ${mm} ${ratio}`;
    if (key !== this.key) {
      this.key = key;
      this.sheet.width = Math.ceil((width + big) * ratio);
      this.sheet.height = Math.ceil(height * ratio);
      const on = this.sheet.getContext("2d", { alpha: false });
      on.fillStyle = "#fffdf9";
      on.fillRect(0, 0, this.sheet.width, this.sheet.height);
      on.setTransform(ratio, 0, 0, ratio, 0, 0);
      grid(on, width + big, height, mm);
    }
    const left = Math.round((((offset % big) + big) % big) * ratio);
    const wide = Math.min(Math.round(width * ratio), this.sheet.width - left);
    context.drawImage(this.sheet, left, 0, wide, this.sheet.height, 0, 0, wide / ratio, this.sheet.height / ratio);
  }
}

// A class by its letter, its shape and its colour, around (x, y); a person's is bold and underlined.
export function label(context, letter, x, y, person, size = 1) {
  const colour = letter ? CLASSES[letter].colour : "#454b57";
  context.fillStyle = colour;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  const s = size;
  if (letter && letter !== "N") {
    context.beginPath();
    if (letter === "V") context.rect(x - 9 * s, y - 9 * s, 18 * s, 18 * s);
    else if (letter === "S") { context.moveTo(x, y - 12 * s); context.lineTo(x + 11 * s, y + 8 * s); context.lineTo(x - 11 * s, y + 8 * s); context.closePath(); }
    else if (letter === "F") { context.moveTo(x, y - 12 * s); context.lineTo(x + 11 * s, y); context.lineTo(x, y + 12 * s); context.lineTo(x - 11 * s, y); context.closePath(); }
    else context.arc(x, y, 9 * s, 0, 7);
    context.stroke();
  }
  context.font = `${person ? "bold " : ""}${letter === "S" ? 11 : 13}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(letter || "·", x, y + (letter === "S" ? 2 * s : 1));
  if (person) context.fillRect(x - 7, y + 12, 14, 2.5);
}

export function clock(seconds) {
  const whole = Math.max(0, seconds);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two((whole / 60) % 60)}:${(whole % 60).toFixed(2).padStart(5, "0")}`;
}
