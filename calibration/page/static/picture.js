// The still: zoom, pan, click to a fraction of a pixel, drag, and what the device says to draw over it.
// Pixels of the still count from the centre of its top-left pixel, as in the survey file.

import { t, number } from "./texts.js";

const NEAR_MOUSE = 13; // how near a click must come to grab something, in pixels of the screen
const NEAR_FINGER = 26;
const CLICK_SLACK = 5; // a click may tremble by that much before it is a drag
const RESIDUAL_TIMES = 25; // residuals are drawn enlarged
const LOUPE_TIMES = 10;
export const HEAT = [
  [0.005, "#2c7bb6"],
  [0.01, "#abd9e9"],
  [0.015, "#ffffbf"],
  [0.03, "#fdae61"],
  [Infinity, "#d7191c"],
];

export class Picture extends EventTarget {
  constructor(canvas, loupe, image, draft) {
    super();
    Object.assign(this, { canvas, loupe, image, draft });
    this.pen = canvas.getContext("2d");
    this.size = [image.naturalWidth, image.naturalHeight];
    this.layers = { grid: true, residuals: true, heat: false, next: true };
    this.mode = "marks"; // what a click draws: marks, axis, zone, or nothing
    this.chosen = null; // {kind, id}: a mark by its id, an end or corner by its place in the list
    this.pointers = new Map();
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    new ResizeObserver(() => this.#resized()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    for (const left of ["pointerleave", "blur"]) canvas.addEventListener(left, () => this.#aim(null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  toScreen(u, v) {
    return [(u + 0.5) * this.view.scale + this.view.x, (v + 0.5) * this.view.scale + this.view.y];
  }

  toStill(x, y) {
    return [(x - this.view.x) / this.view.scale - 0.5, (y - this.view.y) / this.view.scale - 0.5];
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(width / this.size[0], height / this.size[1]);
    this.view = { scale, x: (width - scale * this.size[0]) / 2, y: (height - scale * this.size[1]) / 2 };
    this.fitted = true;
    this.draw();
  }

  zoom(times, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(40, Math.max(0.1, this.view.scale * times));
    const [u, v] = this.toStill(x, y);
    this.view = { scale, x: x - (u + 0.5) * scale, y: y - (v + 0.5) * scale };
    this.fitted = false;
    this.draw();
  }

  choose(chosen, show = false) {
    this.chosen = chosen;
    this.aimed = null;
    const at = chosen && this.#pixelOf(chosen);
    if (show && at) this.#bringIn(...at);
    this.dispatchEvent(new Event("choose"));
    this.draw();
  }

  // Moves what is chosen by pixels of the still.
  nudge(du, dv) {
    const at = this.chosen && this.#pixelOf(this.chosen);
    if (!at) return;
    this.#put(this.chosen, at[0] + du, at[1] + dv, `nudge ${this.chosen.kind} ${this.chosen.id}`);
    const now = this.#pixelOf(this.chosen);
    this.#bringIn(...now);
    this.#aim(now);
  }

  remove() {
    if (!this.chosen) return;
    const { kind, id } = this.chosen;
    if (kind === "mark") this.draft.removeMark(id);
    else this.draft.change((now) => now[kind].splice(id, 1));
    this.choose(null);
  }

  // Everything that can be chosen now, with its pixel.
  #things() {
    const { points, axis, zone } = this.draft.now;
    const marks = points.map((mark) => ({ kind: "mark", id: mark.id }));
    const drawn = [...axis.map((_, id) => ({ kind: "axis", id })), ...zone.map((_, id) => ({ kind: "zone", id }))];
    const things = this.mode === "marks" ? marks : this.mode === "axis" || this.mode === "zone" ? drawn : [];
    return things.map((thing) => ({ ...thing, at: this.#pixelOf(thing) })).filter((thing) => thing.at);
  }

  #pixelOf({ kind, id }) {
    const thing = kind === "mark" ? this.draft.mark(id) : this.draft.now[kind][id];
    if (!thing) return null;
    if (thing.u !== undefined) return [thing.u, thing.v];
    const told = this.draft.answer?.[kind]?.[id]; // typed in metres: the device knows the pixel
    return told && told.u !== null && told.x === thing.x && told.y === thing.y ? [told.u, told.v] : null;
  }

  #put({ kind, id }, u, v, about) {
    const [width, height] = this.size;
    const at = { u: round(clamp(u, -0.5, width - 0.5)), v: round(clamp(v, -0.5, height - 0.5)) };
    this.draft.change((now) => {
      if (kind === "mark") Object.assign(this.draft.mark(id), at);
      else now[kind][id] = at;
    }, about);
  }

  #add(u, v) {
    [u, v] = [round(u), round(v)];
    const [width, height] = this.size;
    if (u < -0.5 || v < -0.5 || u > width - 0.5 || v > height - 0.5) return;
    if (this.mode === "marks") return this.choose({ kind: "mark", id: this.draft.addMark(u, v) });
    const { mode } = this;
    if (mode === "axis" && this.draft.now.axis.length > 1) return this.choose(null);
    if (mode !== "axis" && mode !== "zone") return;
    this.draft.change((now) => now[mode].push({ u, v }));
    this.choose({ kind: mode, id: this.draft.now[mode].length - 1 });
  }

  #nearest(x, y, reach) {
    let best = null;
    for (const thing of this.#things()) {
      const [sx, sy] = this.toScreen(...thing.at);
      const away = Math.hypot(sx - x, sy - y);
      if (away <= reach && (!best || away < best.away)) best = { ...thing, away };
    }
    return best;
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    const at = [event.offsetX, event.offsetY];
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) {
      this.press = { pinched: true };
      return;
    }
    const grabbed = event.button === 0 ? this.#nearest(...at, event.pointerType === "mouse" ? NEAR_MOUSE : NEAR_FINGER) : null;
    this.press = { from: at, grabbed, pixel: grabbed?.at, view: { ...this.view }, isDrag: false, button: event.button };
    if (grabbed) this.choose({ kind: grabbed.kind, id: grabbed.id });
    this.#aim(grabbed ? grabbed.at : this.toStill(...at));
  }

  #move(event) {
    const at = [event.offsetX, event.offsetY];
    if (!this.pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") this.#aim(this.toStill(...at));
      return;
    }
    if (this.pointers.size === 2) return this.#pinch(event, at);
    this.pointers.set(event.pointerId, at);
    const { press } = this;
    if (!press?.from) return;
    const [dx, dy] = [at[0] - press.from[0], at[1] - press.from[1]];
    if (!press.isDrag && Math.hypot(dx, dy) < CLICK_SLACK) return;
    press.isDrag = true;
    if (press.grabbed) {
      // It moves as far as the finger does, and is never hidden by it.
      this.#put(press.grabbed, press.pixel[0] + dx / this.view.scale, press.pixel[1] + dy / this.view.scale, press);
      this.#aim(this.#pixelOf(press.grabbed));
    } else {
      this.view = { ...press.view, x: press.view.x + dx, y: press.view.y + dy };
      this.fitted = false;
      this.#aim(null);
      this.draw();
    }
  }

  #pinch(event, at) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const before = this.pointers.get(event.pointerId);
    const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
    const [from, to] = [middle(before), middle(at)];
    this.view.x += to[0] - from[0];
    this.view.y += to[1] - from[1];
    this.pointers.set(event.pointerId, at);
    this.zoom(apart(at) / Math.max(1, apart(before)), ...to);
  }

  #up(event) {
    const { press } = this;
    this.pointers.delete(event.pointerId);
    if (this.pointers.size) return;
    this.press = null;
    if (event.type === "pointerup" && press?.from && !press.isDrag && !press.grabbed && press.button === 0) this.#add(...this.toStill(...press.from));
    if (event.pointerType !== "mouse") this.#aim(null);
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = event.shiftKey ? 1 : 0.1;
    if (arrows[event.key]) {
      const [du, dv] = arrows[event.key];
      if (this.chosen) this.nudge(du * step, dv * step);
      else {
        this.view.x -= du * 60;
        this.view.y -= dv * 60;
        this.fitted = false;
        this.draw();
      }
    } else if (event.key === "n" || event.key === "N") this.#add(...this.toStill(this.canvas.clientWidth / 2, this.canvas.clientHeight / 2));
    else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else if (event.key === "PageDown" || event.key === "PageUp") this.#walk(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "+" || event.key === "=") this.#zoomAtChosen(1.5);
    else if (event.key === "-") this.#zoomAtChosen(1 / 1.5);
    else if (event.key === "0") this.fit();
    else if (event.key === "Escape") this.choose(null);
    else return;
    event.preventDefault();
  }

  #zoomAtChosen(times) {
    const at = this.chosen && this.#pixelOf(this.chosen);
    this.zoom(times, ...(at ? this.toScreen(...at) : []));
  }

  #walk(by) {
    const things = this.#things();
    if (!things.length) return;
    const now = things.findIndex(({ kind, id }) => kind === this.chosen?.kind && id === this.chosen?.id);
    const next = now < 0 ? (by > 0 ? 0 : things.length - 1) : (now + by + things.length) % things.length;
    this.choose({ kind: things[next].kind, id: things[next].id }, true);
  }

  #bringIn(u, v) {
    const [x, y] = this.toScreen(u, v);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const margin = 30;
    if (x >= margin && y >= margin && x <= width - margin && y <= height - margin) return;
    this.view.x += width / 2 - x;
    this.view.y += height / 2 - y;
    this.draw();
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.fitted) this.fit();
    else this.draw();
  }

  #aim(at) {
    this.aimed = at && at[0] > -1 && at[1] > -1 && at[0] < this.size[0] && at[1] < this.size[1] ? at : null;
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this.#draw();
      this.#drawLoupe();
    });
  }

  #draw() {
    const { pen, view } = this;
    const ratio = window.devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#26323d";
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    pen.imageSmoothingEnabled = view.scale < 3;
    pen.drawImage(this.image, view.x, view.y, this.size[0] * view.scale, this.size[1] * view.scale);
    this.#drawOverlay(pen, (u, v) => this.toScreen(u, v));
    this.dispatchEvent(new Event("draw"));
  }

  #drawLoupe() {
    this.loupe.hidden = !this.aimed;
    if (!this.aimed) return;
    const side = this.loupe.width;
    const pen = this.loupe.getContext("2d");
    const times = Math.max(LOUPE_TIMES, Math.min(40, this.view.scale * 2));
    const [u, v] = this.aimed;
    const toLoupe = (a, b) => [(a - u) * times + side / 2, (b - v) * times + side / 2];
    pen.fillStyle = "#26323d";
    pen.fillRect(0, 0, side, side);
    pen.imageSmoothingEnabled = false;
    const [x, y] = toLoupe(-0.5, -0.5);
    pen.drawImage(this.image, x, y, this.size[0] * times, this.size[1] * times);
    for (const [colour, wide] of [["#000", 3], ["#ffd400", 1]]) {
      stroke(pen, colour, wide, [[0, side / 2], [side / 2 - 6, side / 2]]);
      stroke(pen, colour, wide, [[side / 2 + 6, side / 2], [side, side / 2]]);
      stroke(pen, colour, wide, [[side / 2, 0], [side / 2, side / 2 - 6]]);
      stroke(pen, colour, wide, [[side / 2, side / 2 + 6], [side / 2, side]]);
    }
    const [sx] = this.toScreen(u, v);
    this.loupe.classList.toggle("aside", sx > this.canvas.clientWidth / 2);
  }

  #drawOverlay(pen, to) {
    const { answer, now } = this.draft;
    const line = (points) => points.map(([u, v]) => to(u, v));
    pen.lineJoin = "round";
    if (answer && this.layers.heat && answer.heat.length) {
      pen.save();
      pen.beginPath();
      path(pen, line(answer.outline));
      pen.clip();
      pen.globalAlpha = 0.62;
      for (const { u_rel, quad } of answer.heat) {
        pen.fillStyle = HEAT.find(([bound]) => u_rel <= bound)[1];
        pen.beginPath();
        path(pen, line(quad));
        pen.fill();
      }
      pen.restore();
    }
    if (answer && this.layers.grid) {
      const [left, top] = to(-0.5, -0.5);
      const [right, bottom] = to(this.size[0] - 0.5, this.size[1] - 0.5);
      pen.save();
      pen.beginPath();
      pen.rect(left, top, right - left, bottom - top);
      pen.clip();
      for (const { major, line: points } of answer.grid) {
        stroke(pen, major ? "#00000080" : "#00000040", major ? 3 : 2, line(points));
        stroke(pen, major ? "#ffffffe8" : "#ffffff80", major ? 1.5 : 0.8, line(points));
      }
      pen.restore();
    }
    this.#drawZone(pen, to, line);
    if (answer && this.layers.next && answer.next) this.#drawStar(pen, to(answer.next.u, answer.next.v));
    for (const mark of now.points) this.#drawMark(pen, mark, to, answer?.marks[mark.id]);
  }

  #drawZone(pen, to, line) {
    const { answer } = this.draft;
    const corners = this.draft.now.zone.map((_, id) => this.#pixelOf({ kind: "zone", id }));
    // While something moves, straight edges between corners; else the edges as the lens bends them.
    const isSettled = answer && answer.revision === this.draft.now.revision && answer.outline.length;
    const edge = isSettled ? answer.outline : corners.every(Boolean) ? corners : [];
    if (edge.length > 1) {
      stroke(pen, "#000000b0", 5, line(edge), true);
      stroke(pen, "#35d0ff", 2.5, line(edge), true);
    }
    const ends = this.draft.now.axis.map((_, id) => this.#pixelOf({ kind: "axis", id }));
    if (ends.length === 2 && ends.every(Boolean)) {
      const [from, to_] = line(ends);
      arrow(pen, "#000000c0", 7, from, to_);
      arrow(pen, "#ff9f1c", 3.5, from, to_);
    }
    const showGrips = this.mode === "axis" || this.mode === "zone";
    for (const [kind, places, colour] of [["zone", corners, "#35d0ff"], ["axis", ends, "#ff9f1c"]]) {
      places.forEach((at, id) => {
        if (!at || (!showGrips && places.length > 1)) return;
        const [x, y] = to(...at);
        const isChosen = this.chosen?.kind === kind && this.chosen.id === id;
        pen.beginPath();
        pen.rect(x - 6, y - 6, 12, 12);
        pen.fillStyle = isChosen ? "#fff" : colour;
        pen.fill();
        pen.lineWidth = isChosen ? 3 : 2;
        pen.strokeStyle = "#000";
        pen.stroke();
      });
    }
  }

  #drawMark(pen, mark, to, known) {
    const [x, y] = to(mark.u, mark.v);
    const isChosen = this.chosen?.kind === "mark" && this.chosen.id === mark.id;
    const colour = !mark.use ? "#b9c2cb" : known?.suspect ? "#ff4d4d" : known ? "#ffd400" : "#fff";
    if (this.layers.residuals && known && known.pu !== undefined && known.pu !== null) {
      const [px, py] = to(known.pu, known.pv);
      const scale = this.view.scale;
      const [dx, dy] = [((px - x) / scale) * RESIDUAL_TIMES, ((py - y) / scale) * RESIDUAL_TIMES];
      const shorten = Math.min(1, 160 / Math.max(1, Math.hypot(dx, dy)));
      if (Math.hypot(dx, dy) > 4) {
        arrow(pen, "#000000c0", 5, [x, y], [x + dx * shorten, y + dy * shorten]);
        arrow(pen, "#ff66ff", 2.5, [x, y], [x + dx * shorten, y + dy * shorten]);
      }
    }
    const reach = isChosen ? 13 : 9;
    for (const [ink, wide] of [["#000", 4], [colour, 2]]) {
      pen.beginPath();
      pen.arc(x, y, reach, 0, 2 * Math.PI);
      pen.strokeStyle = ink;
      pen.lineWidth = wide;
      pen.stroke();
      for (const [cx, cy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) stroke(pen, ink, wide - 0.5, [[x + cx * 3, y + cy * 3], [x + cx * (reach + 4), y + cy * (reach + 4)]]);
    }
    pen.font = `${isChosen ? "bold " : ""}14px system-ui, "DejaVu Sans", sans-serif`;
    pen.lineWidth = 4;
    pen.strokeStyle = "#000000d0";
    pen.strokeText(mark.name, x + reach + 4, y - reach + 2);
    pen.fillStyle = colour;
    pen.fillText(mark.name, x + reach + 4, y - reach + 2);
  }

  #drawStar(pen, [x, y]) {
    pen.beginPath();
    for (let i = 0; i < 10; i += 1) {
      const reach = i % 2 ? 6 : 14;
      const angle = (Math.PI * i) / 5 - Math.PI / 2;
      pen.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
    pen.closePath();
    pen.fillStyle = "#7dff7a";
    pen.fill();
    pen.lineWidth = 2;
    pen.strokeStyle = "#000";
    pen.stroke();
  }

  // What is chosen, in words.
  get spoken() {
    const at = this.chosen && this.#pixelOf(this.chosen);
    if (!at) return "";
    const { kind, id } = this.chosen;
    const name = kind === "mark" ? this.draft.mark(id).name : kind === "zone" ? t("corner", { n: id + 1 }) : t(id ? "to" : "from");
    return t("spoken", { name, u: number(at[0], 2), v: number(at[1], 2) });
  }
}

const round = (value) => Math.round(value * 100) / 100;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function path(pen, points) {
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
}

function stroke(pen, colour, wide, points, closed = false) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (closed) pen.closePath();
  pen.strokeStyle = colour;
  pen.lineWidth = wide;
  pen.stroke();
}

function arrow(pen, colour, wide, [ax, ay], [bx, by]) {
  const angle = Math.atan2(by - ay, bx - ax);
  const head = 5 + 2.2 * wide;
  stroke(pen, colour, wide, [[ax, ay], [bx - 0.6 * head * Math.cos(angle), by - 0.6 * head * Math.sin(angle)]]);
  pen.beginPath();
  pen.moveTo(bx, by);
  for (const turn of [-0.42, 0.42]) pen.lineTo(bx - head * Math.cos(angle + turn), by - head * Math.sin(angle + turn));
  pen.closePath();
  pen.fillStyle = colour;
  pen.fill();
}
