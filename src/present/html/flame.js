"use strict";
// The flame graph: cells of the recording (window, thread, CPU, state, stack) added up as asked, drawn on a canvas.

const ROOTS = ["useful", "empty polling", "unknown (events lost)", "no probes", "useful (estimated)", "empty polling (estimated)"];
const EMPTY = [1, 5];
const ROW = 19;
const TOP_THREADS = 12;
/** Pixels below which a rectangle is left out. */
const SEEN = 0.8;

class Flame {
  constructor(data, other, phases, say) {
    // What is drawn is said to `say`: how much matches, and where it is zoomed to.
    Object.assign(this, { data, other, phases, say });
    this.tables = [data, other].filter(Boolean).map((of) => prepare(of.flame));
    this.options = { weight: data.is_time && data.totals.requests ? "request" : data.is_time ? "time" : "samples",
      thread: -1, cpu: -1, from: 0, to: data.flame.windows, busy: false, split: "", search: "", phase: -1, diff: false, short: true };
    this.zoom = [];
    this.focus = 0;
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "Flame graph; arrow keys move, Enter zooms, Escape zooms out" });
    this.build();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  set(changes) {
    Object.assign(this.options, changes);
    if (!Object.keys(changes).every((key) => ["search", "phase"].includes(key))) this.build();
    this.draw();
  }

  /** What one unit of the chosen weight is, and how it is written. */
  unit() {
    const { weight, from, to } = this.options;
    const all = this.data;
    const whole = from === 0 && to === all.flame.windows;
    const counted = (name, total) => (whole ? total : integral(all, name, from, to));
    if (weight === "samples") return { of: "s", factor: 1, write: (v) => number(v) + " samples" };
    if (weight === "request") {
      const n = counted(["requests"], all.totals.requests);
      return { of: "v", factor: n > 0 ? 1 / n : 0, write: (v) => duration(v) + " a request" };
    }
    if (weight === "packet") {
      const n = counted(["packets received", "packets sent"], all.totals.rx_packets + all.totals.tx_packets);
      return { of: "v", factor: n > 0 ? 1 / n : 0, write: (v) => duration(v) + " a packet" };
    }
    return all.is_time
      ? { of: "v", factor: 1, write: (v) => duration(v) }
      : { of: "v", factor: 1, write: (v) => short(v) + " " + all.event };
  }

  /** Sums of a recording's cells by group and node. */
  sums(table, of, filter) {
    const { flame } = of;
    const groups = new Map();
    const { w, t, c, r, n, s, v } = flame.cells;
    const { options } = this;
    const values = this.unit().of === "s" ? s : v;
    const shown = this.shownThreads();
    for (let i = 0; i < n.length; i++) {
      if (filter) {
        if (w[i] < options.from || w[i] >= options.to) continue;
        if (options.thread >= 0 && t[i] !== options.thread) continue;
        if (options.cpu >= 0 && c[i] !== options.cpu) continue;
      }
      if (options.busy && EMPTY.includes(r[i])) continue;
      let part = "";
      if (options.split === "thread") part = shown.has(t[i]) ? of.threads[t[i]].name + " " + of.threads[t[i]].tid : "other threads";
      else if (options.split === "cpu") part = "CPU " + c[i];
      const key = r[i] + "\n" + part;
      let sums = groups.get(key);
      if (!sums) groups.set(key, (sums = new Float64Array(table.size)));
      sums[n[i]] += values[i];
    }
    return groups;
  }

  shownThreads() {
    if (this.shown) return this.shown;
    const order = this.data.threads.map((thread, at) => [thread.samples, at]).sort((a, b) => b[0] - a[0]);
    this.shown = new Set(order.slice(0, TOP_THREADS).map((pair) => pair[1]));
    return this.shown;
  }

  /** The tree as it is asked for: nodes with own and total, children by name. */
  build() {
    const { options } = this;
    const unit = this.unit();
    const [table, beside] = this.tables;
    const root = { name: "all", total: 0, own: 0, children: new Map(), depth: 0, phase: -1 };
    const add = (groups, table, of, key, factor) => {
      for (const [group, sums] of [...groups].sort()) {
        const [state, part] = group.split("\n");
        let top = child(root, ROOTS[state], EMPTY.includes(+state) ? this.phases.indexOf("poll") : -2);
        const chain = [root, top];
        if (part) chain.push((top = child(top, part, -2)));
        grow(top, sums, table, of.flame, key, factor, chain);
      }
    };
    const diff = options.diff && this.other;
    if (diff) {
      // Both as shares of their own work, or each per its own request.
      const perRequest = options.weight === "request";
      const scale = (of, groups) => {
        if (perRequest) return 1 / Math.max(1, of.totals.requests);
        let all = 0;
        for (const sums of groups.values()) for (const value of sums) all += value;
        return 1 / Math.max(1, all);
      };
      const now = this.sums(table, this.data, false);
      const then = this.sums(beside, this.other, false);
      add(now, table, this.data, "total", scale(this.data, now));
      add(then, beside, this.other, "before", scale(this.other, then));
      this.write = perRequest ? (v) => duration(v) + " a request" : percent;
    } else {
      add(this.sums(table, this.data, true), table, this.data, "total", unit.factor);
      this.write = unit.write;
    }
    this.diff = diff;
    this.root = root;
    flatten(root);
    if (diff) widen(root);
    if (options.short) shorten(root, diff);
    this.zoomed = root;
    for (const name of this.zoom) {
      const next = this.zoomed.children.get(name);
      if (!next) break;
      this.zoomed = next;
    }
    this.zoom = path(this.zoomed);
    this.focused = this.zoomed;
  }

  matches(node) {
    if (!this.pattern) return false;
    return this.pattern.test(node.names ?? node.name);
  }

  draw() {
    const { canvas, options } = this;
    const width = canvas.clientWidth || 1000;
    if (width < 50) return;
    const height = Math.max(4, this.rows(width)) * ROW + 2;
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = height + "px";
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.clearRect(0, 0, width, height);
    pen.font = "11.5px " + getComputedStyle(document.documentElement).getPropertyValue("--mono");
    pen.textBaseline = "middle";
    const letter = pen.measureText("m").width;
    try {
      this.pattern = options.search ? new RegExp(options.search, "i") : null;
    } catch {
      this.pattern = new RegExp(options.search.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
    }
    const seeking = this.pattern || options.phase >= 0;
    const hit = (node) => (this.pattern ? this.matches(node) : node.phase === options.phase);
    this.rects = [];
    let found = 0;
    const paint = (node, x, w, y, inside) => {
      const is = seeking && hit(node);
      if (is && !inside) found += size(node, this.diff);
      const rect = { node, x, y, w };
      this.rects.push(rect);
      pen.globalAlpha = seeking && !is ? 0.32 : 1;
      pen.fillStyle = this.colour(node);
      const gap = w > 3 ? 1 : 0;
      pen.fillRect(x, y, Math.max(w - gap, 0.5), ROW - 1);
      if (is && w > 2) {
        pen.strokeStyle = "#c2185b";
        pen.strokeRect(x + 0.5, y + 0.5, w - gap - 1, ROW - 2);
      }
      if (node === this.focused && document.activeElement === canvas) {
        pen.strokeStyle = this.dark() ? "#fff" : "#000";
        pen.lineWidth = 2;
        pen.strokeRect(x + 1, y + 1, Math.max(w - gap - 2, 1), ROW - 3);
        pen.lineWidth = 1;
      }
      const room = Math.floor((w - 8) / letter);
      if (room >= 3) {
        pen.fillStyle = this.ink(node);
        pen.fillText(fit(node.name, room), x + 4, y + ROW / 2);
      }
      pen.globalAlpha = 1;
      let at = x;
      const all = size(node, this.diff);
      for (const below of node.order) {
        const part = (w * size(below, this.diff)) / all;
        if (part >= SEEN) paint(below, at, part, y + ROW, inside || is);
        at += part;
      }
    };
    const above = [];
    for (let node = this.zoomed.up; node; node = node.up) above.unshift(node);
    above.forEach((node, row) => {
      this.rects.push({ node, x: 0, y: row * ROW, w: width });
      pen.fillStyle = this.colour(node);
      pen.globalAlpha = 0.55;
      pen.fillRect(0, row * ROW, width, ROW - 1);
      pen.globalAlpha = 1;
      pen.fillStyle = this.ink(node);
      pen.fillText(fit(node.name, Math.floor((width - 8) / letter)), 4, row * ROW + ROW / 2);
    });
    if (size(this.root, this.diff) > 0) paint(this.zoomed, 0, width, above.length * ROW, false);
    else {
      pen.fillStyle = getComputedStyle(canvas).color;
      pen.fillText("nothing was sampled here", 8, ROW);
    }
    this.say({ found: seeking ? found / Math.max(size(this.root, this.diff), 1e-12) : null, zoom: this.zoom });
  }

  /** Rows that have anything wide enough to be seen. */
  rows(width) {
    const rows = (node, w) => {
      const all = size(node, this.diff);
      let most = 0;
      for (const below of node.order) {
        const part = (w * size(below, this.diff)) / all;
        if (part >= SEEN) most = Math.max(most, rows(below, part));
      }
      return most + 1;
    };
    let above = 0;
    for (let node = this.zoomed.up; node; node = node.up) above++;
    return above + rows(this.zoomed, width);
  }

  colour(node) {
    if (this.diff && node.depth > 0) {
      const change = node.total - node.before;
      const share = Math.min(1, Math.abs(change) / Math.max(node.total, node.before, 1e-12));
      const light = Math.round(236 - 110 * share);
      return change > 0 ? `rgb(236,${light},${Math.round(light * 0.9)})` : `rgb(${light},${Math.round(light * 1.02)},240)`;
    }
    if (node.phase >= 0) return this.data.colours[node.phase];
    const plain = node.depth < 2 || node.phase === -2;
    return this.dark() ? (plain ? "#3d454d" : "#2c3238") : plain ? "#cfd3d6" : "#e8e8e8";
  }

  dark() {
    return document.documentElement.dataset.theme === "dark";
  }

  ink(node) {
    return this.dark() && (node.phase < 0 && !(this.diff && node.depth > 0)) ? "#dfe3e7" : "#16181a";
  }

  describe(node) {
    const all = size(this.root, this.diff);
    const lines = [];
    if (this.diff) {
      lines.push(`${this.write(node.total)}, beside ${this.write(node.before)}: ${node.total >= node.before ? "+" : "–"}${this.write(Math.abs(node.total - node.before))}`);
    } else {
      lines.push(`${this.write(node.total)} in all, ${this.write(node.own)} in itself · ${percent(node.total / all)}`);
    }
    if (node.frame != null) {
      const { frames } = this.data.flame;
      const place = frames.source[node.frame];
      lines.push(frames.modules[frames.module[node.frame]] + (place ? "  " + place : ""));
    }
    if (node.phase >= 0) lines.push("phase " + this.phases[node.phase]);
    if (node.rows) lines.push(`${node.rows} functions that only call one another: “Short” shows each`);
    return lines;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return this.rects.find((r) => y >= r.y && y < r.y + ROW && x >= r.x && x < r.x + Math.max(r.w, 1))?.node;
  }

  zoomTo(node) {
    this.zoomed = this.focused = node;
    this.zoom = path(node);
    this.draw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => {
      const node = this.at(event);
      canvas.style.cursor = node ? "pointer" : "default";
      if (node) tip.show(event, node.name, ...this.describe(node));
      else tip.hide();
    });
    canvas.addEventListener("pointerleave", tip.hide);
    canvas.addEventListener("click", (event) => {
      const node = this.at(event);
      if (node) this.zoomTo(node === this.zoomed && node.up ? node.up : node);
    });
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => (tip.hide(), this.draw()));
    canvas.addEventListener("keydown", (event) => {
      const node = this.focused;
      const siblings = node.up ? node.up.order : [node];
      const move = (step) => siblings[siblings.indexOf(node) + step];
      const next = {
        ArrowDown: () => [...node.order].sort((a, b) => size(b, this.diff) - size(a, this.diff))[0],
        ArrowUp: () => node.up, ArrowRight: () => move(1), ArrowLeft: () => move(-1),
      }[event.key]?.();
      if (event.key === "Enter") this.zoomTo(node);
      else if (event.key === "Escape") this.zoomTo(this.root);
      else if (next) {
        this.focused = next;
        this.draw();
        const rect = this.rects.find((r) => r.node === next);
        const box = canvas.getBoundingClientRect();
        if (rect) tip.show({ clientX: box.left + rect.x, clientY: box.top + rect.y + ROW - 8 }, next.name, ...this.describe(next));
      } else if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
    });
  }
}

const size = (node, diff) => (diff ? node.wide : node.total);

function fit(name, room) {
  return clean(name.length <= room ? name : name.slice(0, Math.max(room - 1, 1)) + "…");
}

function path(node) {
  const names = [];
  for (let at = node; at.up; at = at.up) names.unshift(at.name);
  return names;
}

function child(node, name, phase) {
  let made = node.children.get(name);
  if (!made) {
    made = { name, total: 0, before: 0, own: 0, children: new Map(), up: node, depth: node.depth + 1, phase };
    node.children.set(name, made);
  }
  return made;
}

/** Callers come before what they call: totals are added from the back. */
function prepare(flame) {
  return { size: flame.nodes.parent.length };
}

function grow(top, own, table, flame, key, factor, above) {
  const { parent, frame } = flame.nodes;
  const totals = own.slice();
  for (let at = table.size - 1; at > 0; at--) totals[parent[at]] += totals[at];
  const made = new Array(table.size);
  made[0] = top;
  const all = totals[0] * factor;
  for (const node of above) node[key] = (node[key] ?? 0) + all;
  for (let at = 1; at < table.size; at++) {
    if (totals[at] === 0) continue;
    const id = frame[at];
    const node = child(made[parent[at]], flame.frames.names[id], flame.frames.phase[id]);
    if (key === "total") node.frame ??= id;
    node[key] += totals[at] * factor;
    if (key === "total") node.own += own[at] * factor;
    made[at] = node;
  }
}

/** Children in the order they are drawn in: states as they are listed, functions by name, so that pictures compare. */
function flatten(node) {
  node.before ??= 0;
  const by = node.depth === 0 ? (a, b) => ROOTS.indexOf(a.name) - ROOTS.indexOf(b.name) : (a, b) => (a.name < b.name ? -1 : 1);
  node.order = [...node.children.values()].sort(by);
  for (const below of node.order) flatten(below);
}

/** Of a difference the wider of both is drawn, and a caller is as wide as all that it calls. */
function widen(node) {
  let below = 0;
  for (const child of node.order) below += widen(child);
  return (node.wide = Math.max(node.total, node.before, below));
}

/** Callers that only call one another, and are nobody's phase, become one row: a thread's way to its loop. */
function shorten(node, diff) {
  while (node.depth > 1 && node.phase === -1 && node.order.length === 1) {
    const [below] = node.order;
    if (below.phase !== -1 || size(below, diff) < size(node, diff) * 0.98) break;
    node.first ??= node.name;
    node.names = (node.names ?? node.name) + "\n" + below.name;
    node.rows = (node.rows ?? 1) + 1;
    node.name = `${node.first} ⋯ ${below.name}`;
    node.own += below.own;
    node.children = below.children;
    node.order = below.order;
    for (const child of node.order) child.up = node;
  }
  for (const below of node.order) shorten(below, diff);
}

/** What rings counted within windows, from their rates. */
function integral(data, names, from, to) {
  const [start, end] = [from * data.flame.window_ns, to * data.flame.window_ns];
  let sum = 0;
  for (const series of data.series.filter((s) => names.includes(s.name) && s.unit === "1/s")) {
    let before = 0;
    for (const [at, rate] of series.points) {
      const [a, b] = [Math.max(before, start), Math.min(at, end)];
      if (b > a) sum += (rate * (b - a)) / 1e9;
      before = at;
    }
  }
  return sum;
}
