// Tables and fields beside the picture: what is typed, and what the device says about it.

import { HEAT } from "./picture.js";
import { number, said, t } from "./texts.js";

const STEPS = ["marks", "zone", "site", "result"];
const SITE_KEYS = ["id", "limit_kmh", "mount_height_m", "forward", "backward"];
const byId = (id) => document.getElementById(id);

export class Panel {
  constructor(draft, picture) {
    Object.assign(this, { draft, picture, drawing: "axis", step: 0.1 });
    this.#tabs();
    this.#fields();
    this.#buttons();
    this.open("marks");
  }

  // Fixed texts, in the language of the page.
  translate() {
    for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
    for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
    for (const list of ["distances", "axis", "zone"]) byId(list).replaceChildren();
    byId("marks").tBodies[0].replaceChildren();
    document.title = `Snellius: ${t("title")}`;
    this.show();
  }

  open(step) {
    this.at = step;
    for (const name of STEPS) {
      const tab = byId(`tab-${name}`);
      tab.setAttribute("aria-selected", name === step);
      tab.tabIndex = name === step ? 0 : -1;
      byId(`panel-${name}`).hidden = name !== step;
    }
    this.#setMode();
    this.show();
  }

  show() {
    const { now, answer } = this.draft;
    for (const key of ["system", "sigma_px", "sigma_m"]) fill(byId(key), now[key]);
    for (const key of SITE_KEYS) fill(byId(`site-${key}`), now.site[key] ?? "");
    this.#showMarks(now, answer);
    this.#showDistances(now);
    this.#showPlaces("axis", now, answer);
    this.#showPlaces("zone", now, answer);
    this.#showSelected();
    this.#showResult(answer);
    this.#showState(answer);
    byId("undo").disabled = !this.draft.canUndo;
    byId("zoom").textContent = `${number(this.picture.view.scale * 100, 0)} %`;
    for (const button of document.querySelectorAll("[data-layer]")) button.setAttribute("aria-pressed", this.picture.layers[button.dataset.layer]);
    byId("legend").hidden = !(this.picture.layers.heat && answer?.heat.length);
    if (!byId("legend").hidden) this.#showLegend();
  }

  // Brings the row of what was chosen in the picture into view.
  follow() {
    const { chosen } = this.picture;
    if (chosen) {
      const rows = chosen.kind === "mark" ? byId("marks").tBodies[0].rows : byId(chosen.kind).children;
      const place = chosen.kind === "mark" ? this.draft.now.points.findIndex((mark) => mark.id === chosen.id) : chosen.id;
      rows[place]?.scrollIntoView({ block: "nearest" });
    }
  }

  #tabs() {
    STEPS.forEach((name, place) => {
      const tab = byId(`tab-${name}`);
      tab.addEventListener("click", () => this.open(name));
      tab.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        const next = STEPS[(place + by + STEPS.length) % STEPS.length];
        this.open(next);
        byId(`tab-${next}`).focus();
      });
    });
  }

  #fields() {
    byId("system").addEventListener("change", (event) => this.draft.change((now) => (now.system = event.target.value)));
    for (const key of ["sigma_px", "sigma_m"]) typed(byId(key), (text) => this.draft.change((now) => (now[key] = decimal(text)), key));
    for (const key of SITE_KEYS) {
      const tidy = key === "mount_height_m" || key === "limit_kmh" ? decimal : (text) => text;
      typed(byId(`site-${key}`), (text) => this.draft.change((now) => (now.site[key] = tidy(text)), key));
    }
    for (const axis of ["u", "v"]) {
      typed(byId(`selected-${axis}`), (text) => {
        const value = Number(decimal(text));
        const { chosen } = this.picture;
        if (!text.trim() || !Number.isFinite(value) || chosen?.kind !== "mark") return;
        this.draft.change(() => (this.draft.mark(chosen.id)[axis] = value), `${axis} of ${chosen.id}`);
      });
    }
  }

  #buttons() {
    const on = (id, act) => byId(id).addEventListener("click", act);
    on("undo", () => this.draft.undo());
    on("zoom-in", () => this.picture.zoom(1.5));
    on("zoom-out", () => this.picture.zoom(1 / 1.5));
    on("zoom-fit", () => this.picture.fit());
    for (const button of document.querySelectorAll("[data-layer]")) {
      button.addEventListener("click", () => {
        this.picture.layers[button.dataset.layer] = !this.picture.layers[button.dataset.layer];
        this.picture.draw();
        this.show();
      });
    }
    for (const button of document.querySelectorAll("[data-nudge]")) {
      const [du, dv] = button.dataset.nudge.split(",").map(Number);
      button.addEventListener("click", () => this.picture.nudge(du * this.step, dv * this.step));
    }
    on("step", () => {
      this.step = this.step === 0.1 ? 1 : 0.1;
      this.show();
    });
    on("add-distance", () => {
      const { points, distances } = this.draft.now;
      const last = distances[distances.length - 1];
      const from = last?.from ?? points[0]?.id ?? 0;
      const to = points.find((mark) => mark.id !== from && !distances.some((one) => one.from === from && one.to === mark.id));
      this.draft.change((now) => now.distances.push({ from, to: to?.id ?? 0, metres: "" }));
      byId("distances").lastElementChild.querySelector("input").focus();
    });
    for (const mode of ["axis", "zone"]) {
      on(`draw-${mode}`, () => this.#drawing(mode));
      byId(`draw-${mode}`).addEventListener("keydown", (event) => {
        if (!event.key.startsWith("Arrow")) return;
        this.#drawing(mode === "axis" ? "zone" : "axis");
        byId(`draw-${this.drawing}`).focus();
      });
      on(`clear-${mode}`, () => {
        this.draft.change((now) => (now[mode] = []));
        this.picture.choose(null);
        this.#drawing(mode);
      });
    }
    on("turn", () => this.draft.change((now) => now.axis.reverse()));
    on("rectangle", () => this.#rectangle());
  }

  // The zone as wide as asked, along the direction; with its corners in metres.
  #rectangle() {
    const axis = this.draft.answer?.axis ?? [];
    const wide = Number(decimal(byId("width").value));
    if (axis.length !== 2 || axis[0].x === null || axis[1].x === null || !(wide > 0)) return;
    const [dx, dy] = [axis[1].x - axis[0].x, axis[1].y - axis[0].y];
    const length = Math.hypot(dx, dy);
    const [ax, ay] = [(-dy / length) * (wide / 2), (dx / length) * (wide / 2)];
    const cm = (value) => Math.round(value * 100) / 100;
    const corner = (end, side) => ({ x: cm(axis[end].x + side * ax), y: cm(axis[end].y + side * ay) });
    this.draft.change((now) => (now.zone = [corner(0, -1), corner(1, -1), corner(1, 1), corner(0, 1)]));
    this.#drawing("zone");
  }

  #drawing(mode) {
    this.drawing = mode;
    this.#setMode();
    this.show();
  }

  #setMode() {
    const before = this.picture.mode;
    this.picture.mode = { marks: "marks", zone: this.drawing }[this.at] ?? "look";
    if (before !== this.picture.mode && this.picture.chosen && (this.picture.chosen.kind === "mark") !== (this.picture.mode === "marks")) this.picture.choose(null);
    for (const mode of ["axis", "zone"]) {
      byId(`draw-${mode}`).setAttribute("aria-checked", mode === this.drawing);
      byId(`draw-${mode}`).tabIndex = mode === this.drawing ? 0 : -1;
    }
    this.picture.draw();
  }

  #showMarks(now, answer) {
    const degrees = now.system === "wgs84";
    const heads = degrees ? ["latitude", "longitude"] : ["x", "y"];
    byId("head-x").textContent = t(heads[0]);
    byId("head-y").textContent = t(heads[1]);
    byId("no-marks").hidden = now.points.length > 0;
    byId("marks").hidden = !now.points.length;
    const body = byId("marks").tBodies[0];
    sync(body, now.points.map((mark) => mark.id), (id) => this.#markRow(id));
    now.points.forEach((mark, place) => {
      const row = body.rows[place];
      const known = answer?.marks[mark.id];
      const wrong = answer?.wrong.find((one) => one.mark === mark.id)?.says ?? "";
      const [name, x, y, use] = row.querySelectorAll("input");
      fill(name, mark.name);
      fill(x, mark.x);
      fill(y, mark.y);
      use.checked = mark.use;
      x.placeholder = known?.taped ? known.x : "";
      y.placeholder = known?.taped ? known.y : "";
      name.setAttribute("aria-label", t("of", { what: t("name"), name: mark.name }));
      x.setAttribute("aria-label", t("of", { what: t(heads[0]), name: mark.name }));
      y.setAttribute("aria-label", t("of", { what: t(heads[1]), name: mark.name }));
      use.setAttribute("aria-label", t("useOf", { name: mark.name }));
      row.querySelector("button").setAttribute("aria-label", t("removeOf", { name: mark.name }));
      x.setAttribute("aria-invalid", / x_m:|latitude|RD New/.test(wrong));
      y.setAttribute("aria-invalid", / y_m:|longitude|RD New/.test(wrong));
      name.setAttribute("aria-invalid", / name:/.test(wrong));
      const off = known?.off_m ?? null;
      row.querySelector(".off").textContent = off === null ? (known?.taped ? t("byTape") : "") : off < 1 ? `${number(off * 100, 1)} cm` : `${number(off, 1)} m`;
      row.className = [mark.use ? "" : "unused", known?.suspect ? "suspect" : "", this.#isChosen("mark", mark.id) ? "selected" : ""].join(" ");
    });
  }

  #markRow(id) {
    const row = document.createElement("tr");
    for (const key of ["name", "x", "y"]) {
      const input = element("input", { autocomplete: "off", spellcheck: false });
      if (key !== "name") input.inputMode = "decimal";
      typed(input, (text) => this.draft.change(() => (this.draft.mark(id)[key] = key === "name" ? text : decimal(text)), `${key} of ${id}`));
      input.addEventListener("focus", () => this.picture.choose({ kind: "mark", id }, true));
      cell(row, key, input);
    }
    cell(row, "off");
    const use = element("input", { type: "checkbox" });
    use.addEventListener("change", () => this.draft.change(() => (this.draft.mark(id).use = use.checked)));
    const around = element("label");
    around.append(use);
    cell(row, "use", around);
    const remove = element("button", { type: "button", textContent: "✕" });
    remove.addEventListener("click", () => {
      this.picture.choose({ kind: "mark", id });
      this.picture.remove();
    });
    cell(row, "remove", remove);
    return row;
  }

  #showDistances(now) {
    const list = byId("distances");
    byId("tape-count").textContent = now.distances.length ? `(${now.distances.length})` : "";
    byId("add-distance").disabled = now.points.length < 2;
    sync(list, now.distances.map((_, place) => place), (place) => this.#distanceRow(place));
    now.distances.forEach((one, place) => {
      const [from, to] = list.children[place].querySelectorAll("select");
      fill(list.children[place].querySelector("input"), one.metres);
      for (const [select, value] of [[from, one.from], [to, one.to]]) {
        const names = now.points.map((mark) => `${mark.id} ${mark.name}`).join("|");
        if (select.dataset.names !== names) {
          select.replaceChildren(element("option", { value: 0, textContent: "–" }), ...now.points.map((mark) => element("option", { value: mark.id, textContent: mark.name })));
          select.dataset.names = names;
        }
        select.value = value;
      }
    });
  }

  #distanceRow(place) {
    const row = element("li");
    const n = place + 1;
    const metres = element("input", { inputMode: "decimal", autocomplete: "off", ariaLabel: t("distanceMetres", { n }) });
    typed(metres, (text) => this.draft.change((now) => (now.distances[place].metres = decimal(text)), `distance ${place}`));
    const ends = ["from", "to"].map((key) => {
      const select = element("select", { ariaLabel: t(key === "from" ? "distanceFrom" : "distanceTo", { n }) });
      select.addEventListener("change", () => this.draft.change((now) => (now.distances[place][key] = Number(select.value))));
      return select;
    });
    const remove = element("button", { type: "button", textContent: "✕", className: "remove", ariaLabel: t("removeOf", { name: t("distance", { n }) }) });
    remove.addEventListener("click", () => this.draft.change((now) => now.distances.splice(place, 1)));
    row.append(metres, element("span", { textContent: t("metresFrom"), className: "words" }), ends[0], element("span", { textContent: t("metresTo") }), ends[1], remove);
    return row;
  }

  #showPlaces(kind, now, answer) {
    const list = byId(kind);
    const told = answer?.[kind] ?? [];
    sync(list, now[kind].map((_, place) => place), (place) => this.#placeRow(kind, place));
    now[kind].forEach((corner, place) => {
      const row = list.children[place];
      row.classList.toggle("selected", this.#isChosen(kind, place));
      const at = corner.x === undefined ? told[place] : corner;
      const [x, y] = row.querySelectorAll("input");
      fill(x, at?.x === undefined || at.x === null ? "" : String(at.x));
      fill(y, at?.y === undefined || at.y === null ? "" : String(at.y));
      x.disabled = y.disabled = corner.x === undefined && !at;
    });
    if (kind === "zone") byId("zone-count").textContent = now.zone.length ? t("corners", { n: now.zone.length }) : "";
    else {
      const known = told.length === 2 && told.every((end) => end.x !== null);
      byId("axis-length").textContent = known ? `${number(Math.hypot(told[1].x - told[0].x, told[1].y - told[0].y), 2)} m` : "";
      byId("rectangle").disabled = !known;
      byId("turn").disabled = now.axis.length < 2;
    }
  }

  #placeRow(kind, place) {
    const row = element("li");
    const name = kind === "zone" ? t("corner", { n: place + 1 }) : t(place ? "to" : "from");
    row.append(element("span", { textContent: name, className: "label" }));
    const inputs = ["x", "y"].map((axis) => {
      const input = element("input", { inputMode: "decimal", autocomplete: "off", ariaLabel: t("of", { what: t(axis), name }) });
      input.addEventListener("focus", () => this.picture.choose({ kind, id: place }, true));
      return input;
    });
    for (const input of inputs) {
      typed(input, () => {
        const [x, y] = inputs.map((one) => Number(decimal(one.value)));
        const isRight = inputs.map((one) => one.value.trim() !== "" && Number.isFinite(Number(decimal(one.value))));
        inputs.forEach((one, i) => one.setAttribute("aria-invalid", !isRight[i]));
        if (isRight.every(Boolean)) this.draft.change((now) => (now[kind][place] = { x, y }), `${kind} ${place}`);
      });
    }
    inputs.forEach((input, i) => {
      const label = element("label", { textContent: i ? "y" : "x" });
      label.append(input);
      row.append(label);
    });
    const remove = element("button", { type: "button", textContent: "✕", className: "remove", ariaLabel: t("removeOf", { name }) });
    remove.addEventListener("click", () => {
      this.picture.choose({ kind, id: place });
      this.picture.remove();
    });
    row.append(remove);
    return row;
  }

  #isChosen(kind, id) {
    const { chosen } = this.picture;
    return chosen?.kind === kind && chosen.id === id;
  }

  #showSelected() {
    const { chosen } = this.picture;
    const mark = chosen?.kind === "mark" ? this.draft.mark(chosen.id) : null;
    byId("selected").hidden = !mark || this.at !== "marks";
    byId("step").textContent = t("step", { px: number(this.step, this.step === 1 ? 0 : 1) });
    byId("step").setAttribute("aria-pressed", this.step === 1);
    if (mark) {
      byId("selected-name").textContent = mark.name;
      fill(byId("selected-u"), mark.u.toFixed(2));
      fill(byId("selected-v"), mark.v.toFixed(2));
    }
    const { spoken } = this.picture;
    if (byId("spoken").textContent !== spoken) byId("spoken").textContent = spoken;
  }

  // What is wrong or missing, a line each.
  #lines(answer) {
    const keys = { id: t("keyId"), limit_kmh: t("keyLimit"), forward: t("keyForward"), backward: t("keyBackward") };
    const missing = {
      marks: ({ n }) => t("todoMarks", { n }),
      metres: ({ names }) => t("todoMetres", { names: names.join(", ") }),
      used: ({ n }) => t("todoUsed", { n }),
      axis: () => t("todoAxis"),
      zone: () => t("todoZone"),
      site: (one) => t("todoSite", { names: one.keys.map((key) => keys[key]).join(", ") }),
    };
    return {
      wrong: [...answer.wrong.map((one) => said(one.says)), ...(answer.verdict ? [] : answer.reasons.map((line) => said(line)))],
      todo: answer.todo.map((one) => missing[one.code](one)),
    };
  }

  #showState(answer) {
    const { draft } = this;
    byId("kept").textContent = draft.kept === "gone" ? "" : `${t(draft.kept)}${draft.kept === "offline" && draft.error ? `: ${said(draft.error)}` : ""}`;
    byId("kept").classList.toggle("trouble", ["offline", "newer", "restored"].includes(draft.kept));
    const isCurrent = answer && answer.revision === draft.now.revision;
    byId("save").disabled = !(isCurrent && answer.can_save);
    for (const id of ["state", "result"]) byId(id).classList.toggle("stale", !isCurrent);
    const done = answer ? { marks: answer.grid.length > 0 && !answer.wrong.length && !answer.todo.some((one) => ["marks", "metres", "used"].includes(one.code)), zone: answer.zone.length > 2 && answer.axis.length > 1, site: !answer.todo.some((one) => one.code === "site"), result: answer.can_save } : {};
    for (const name of STEPS) byId(`tab-${name}`).classList.toggle("done", Boolean(done[name]));
    const state = [];
    if (!answer) state.push(element("p", { textContent: t("thinking") }));
    else {
      const { wrong, todo } = this.#lines(answer);
      if (answer.verdict) {
        const says = answer.verdict === "refuse" ? said(answer.reasons[0] ?? "") : wrong.length || todo.length ? "" : t("ready");
        const line = element("p");
        line.append(element("b", { textContent: t(answer.verdict), className: answer.verdict }), ` ${says}`);
        state.push(line);
      }
      state.push(...wrong.map((says) => element("p", { textContent: says, className: "wrong" })));
      state.push(...todo.slice(0, wrong.length ? 1 : 2).map((says) => element("p", { textContent: says })));
    }
    replace(byId("state"), state);
  }

  #showResult(answer) {
    const parts = [];
    const summary = answer?.summary;
    const percent = (share) => number(100 * share, 2);
    if (!summary) {
      parts.push(element("p", { className: "verdict", textContent: t("noVerdict") }));
      if (answer) {
        const { wrong, todo } = this.#lines(answer);
        parts.push(bullets([...wrong, ...todo]));
      }
    } else {
      const worst = summary.u_rel_speed.worst;
      const says = { good: "verdictGood", usable: "verdictUsable", refuse: "verdictRefuse" }[answer.verdict];
      parts.push(element("p", { className: `verdict ${answer.verdict}`, textContent: t(says, { u: worst === null ? "–" : number(200 * worst, 1) }) }));
      if (answer.reasons.length) parts.push(bullets(answer.reasons.map((line) => said(line))));
      const { wrong, todo } = this.#lines(answer);
      if (wrong.length + todo.length) parts.push(bullets([...wrong, ...todo]));
      if (answer.privacy) parts.push(element("p", { className: "privacy", textContent: t("privacy", { says: said(answer.privacy) }) }));
      const { camera } = summary;
      const within = (value, sigma, digits, unit) => `${number(value, digits)} ± ${number(2 * sigma, digits)}${unit}`;
      const table = element("table");
      for (const [head, value] of [
        ["worst", worst === null ? "–" : `${percent(worst)} %`],
        ["median", worst === null ? "–" : `${percent(summary.u_rel_speed.median)} %`],
        ["rms", `${number(summary.rms_px, 2)} px`],
        ["height", within(camera.height_m, camera.height_m_sigma, 2, " m")],
        ["tilt", within(camera.tilt_deg, camera.tilt_deg_sigma, 2, "°")],
        ["focal", within(camera.focal_px, camera.focal_px_sigma, 0, " px")],
        ["lens", camera.k1 === null ? t("lensUnknown") : within(camera.k1, camera.k1_sigma, 3, "")],
        ["pxPerM", `${number(summary.px_per_m, 0)} px/m`],
      ]) {
        const row = table.insertRow();
        row.append(element("th", { scope: "row", textContent: t(head) }));
        row.insertCell().textContent = value;
      }
      parts.push(table);
      if (answer.next && answer.next.then < 0.9 * answer.next.now) parts.push(element("p", { textContent: t("nextHelps", { now: percent(answer.next.now), then: percent(answer.next.then) }) }));
    }
    replace(byId("result"), parts);
  }

  #showLegend() {
    const names = HEAT.map(([bound], place) => (bound === Infinity ? `> ${number(100 * HEAT[place - 1][0], 1)} %` : `≤ ${number(100 * bound, 1)} %`));
    const parts = HEAT.map(([, colour], place) => {
      const entry = element("span");
      const patch = element("i");
      patch.style.backgroundColor = colour;
      entry.append(patch, names[place]);
      return entry;
    });
    replace(byId("legend"), [element("span", { textContent: t("legend") }), ...parts]);
  }
}

function element(kind, properties = {}) {
  return Object.assign(document.createElement(kind), properties);
}

function cell(row, name, ...content) {
  const made = row.insertCell();
  made.className = name;
  made.append(...content);
}

function bullets(lines) {
  const list = element("ul");
  list.append(...lines.map((textContent) => element("li", { textContent })));
  return list;
}

// Exchanges content only when it differs, so that a screen reader is not told the same again.
function replace(container, parts) {
  const fresh = element("div");
  fresh.append(...parts);
  if (container.innerHTML !== fresh.innerHTML) container.replaceChildren(...parts);
}

// Rows for keys, in order; rows that exist already are kept, with the cursor in them.
function sync(container, keys, make) {
  const had = new Map([...container.children].map((row) => [row.dataset.key, row]));
  const rows = keys.map((key) => {
    const row = had.get(String(key)) ?? make(key);
    row.dataset.key = key;
    return row;
  });
  const same = rows.length === container.children.length && rows.every((row, place) => row === container.children[place]);
  if (!same) container.replaceChildren(...rows);
}

function typed(input, act) {
  input.addEventListener("input", () => act(input.value));
  input.addEventListener("blur", () => input.dispatchEvent(new Event("settled", { bubbles: true })));
}

// Shows a value, but never under the fingers of whoever types there.
function fill(input, value) {
  if (document.activeElement !== input && input.value !== value) input.value = value;
}

// A decimal comma is a point to the device.
function decimal(text) {
  return text.trim().replace(",", ".");
}
