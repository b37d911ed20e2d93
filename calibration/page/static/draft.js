// What has been clicked and typed: kept in this browser at once, and on the device as soon as it answers.

const SEND_AFTER_MS = 250;
const RETRY_AFTER_MS = 3000;
const UNDO_STEPS = 100;

export class Draft extends EventTarget {
  constructor(begin) {
    super();
    this.key = `snellius:${begin.key}`;
    this.now = begin.draft;
    this.answer = null;
    this.kept = "keeping";
    this.past = [];
    this.timer = null;
    this.sending = null;
    const own = this.#own();
    if (own && own.revision > this.now.revision) {
      this.now = own;
      this.kept = "restored";
    }
    this.#send();
  }

  // Changes the draft; small changes of one thing (typing, nudging) share a step of undo when they name it.
  change(act, about = null) {
    const before = JSON.stringify(this.now);
    act(this.now);
    if (JSON.stringify(this.now) === before) return;
    if (about === null || about !== this.about) this.past.push(before);
    this.past.splice(0, this.past.length - UNDO_STEPS);
    this.about = about;
    this.#changed();
  }

  get canUndo() {
    return this.past.length > 0;
  }

  undo() {
    if (!this.canUndo) return;
    const revision = this.now.revision;
    this.now = JSON.parse(this.past.pop());
    this.now.revision = revision;
    this.about = null;
    this.#changed();
  }

  mark(id) {
    return this.now.points.find((mark) => mark.id === id);
  }

  // Adds a mark and answers its id.
  addMark(u, v) {
    const id = 1 + Math.max(0, ...this.now.points.map((mark) => mark.id));
    const names = new Set(this.now.points.map((mark) => mark.name));
    let number = this.now.points.length + 1;
    while (names.has(`P${number}`)) number += 1;
    this.change((now) => now.points.push({ id, name: `P${number}`, u, v, x: "", y: "", sigma_px: "", sigma_m: "", use: true }));
    return id;
  }

  removeMark(id) {
    this.change((now) => {
      now.points = now.points.filter((mark) => mark.id !== id);
      now.distances = now.distances.filter((one) => one.from !== id && one.to !== id);
    });
  }

  // Waits for what is under way, saves, and answers {status, ...what the device said}.
  async save() {
    clearTimeout(this.timer);
    await this.sending;
    const reply = await fetch("save", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.now) });
    return { status: reply.status, ...(await reply.json()) };
  }

  #changed() {
    this.now.revision += 1;
    this.kept = "keeping";
    try {
      localStorage.setItem(this.key, JSON.stringify(this.now));
    } catch (full) {
      console.warn("this browser keeps no copy:", full);
    }
    this.dispatchEvent(new Event("change"));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#send(), SEND_AFTER_MS);
  }

  #own() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  #send() {
    if (this.sending) {
      this.again = true; // one question at a time: the device may be slow, and only the last answer counts
      return;
    }
    this.again = false;
    this.sending = this.#ask().finally(() => {
      this.sending = null;
      if (this.again) this.#send();
    });
  }

  async #ask() {
    let reply, told;
    const asked = this.now.revision;
    try {
      reply = await fetch("draft", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.now) });
      told = reply.headers.get("Content-Type") === "application/json" ? await reply.json() : {};
    } catch {
      return this.#unreached("offline");
    }
    if (reply.status === 403) return this.#unreached("gone");
    if (reply.status === 409) {
      this.now = told.draft;
      this.past = [];
      this.kept = "newer";
      this.dispatchEvent(new Event("change"));
      this.again = true;
    } else if (reply.ok) {
      this.answer = told;
      if (asked === this.now.revision && this.kept !== "newer" && this.kept !== "restored") this.kept = "kept";
    } else {
      this.error = told.error ?? `${reply.status}`;
      return this.#unreached("offline");
    }
    this.dispatchEvent(new Event("answer"));
  }

  #unreached(kept) {
    this.kept = kept;
    this.dispatchEvent(new Event("answer"));
    this.timer = setTimeout(() => this.#send(), RETRY_AFTER_MS);
  }
}
