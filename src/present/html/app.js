"use strict";
// Puts the page together: the flame graph's controls, keys, what follows what.

const PARTS = [["summary", "Summary"], ["findings", "What limits it"], ["ledger", "Time"], ["flame", "Flame graph"], ["latency", "Requests"], ["time", "Over time"]];
let state = {};

function flameSection(data, others) {
  const options = { label: (name, value) => el("option", { value }, name) };
  const seg = (name, choices, chosen, take) => {
    const box = el("span", { class: "seg", role: "group", "aria-label": name });
    const mark = (value) => box.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.value === String(value))));
    box.append(...choices.map(([text, value, title]) => el("button", { "data-value": value, title: title ?? "", click: () => (mark(value), take(value)) }, text)));
    mark(chosen);
    return Object.assign(box, { mark });
  };
  const found = el("span", { class: "found", "aria-live": "polite" });
  const crumbs = el("div", { class: "crumbs" });
  const line = el("span", {});
  const again = () => {
    const { thread, cpu, from, to, busy } = flame.options;
    const { window_ns, windows } = data.flame;
    const at = (window) => (window * window_ns) / 1e9 + "s";
    const words = [thread >= 0 && "--thread " + data.threads[thread].tid, cpu >= 0 && "--cpu " + cpu,
      to - from < windows && `--window ${at(from)}..${at(to)}`, busy && "--busy"].filter(Boolean).map((word) => word + " ").join("");
    line.replaceChildren(command(`bypassprof report --json ${words}${quoted(data.file)}`));
  };
  const flame = new Flame(data, others[0], data.phases, ({ found: share, zoom }) => {
    again();
    found.textContent = share == null ? "" : percent(share) + " match";
    crumbs.replaceChildren(...(zoom.length ? [el("button", { click: () => flame.zoomTo(flame.root) }, "all"), clean(" › " + zoom.slice(-3).join(" › "))] : [flame.diff ? "Red: more here than in the other. Blue: less. Click zooms" : "Click zooms, arrow keys walk, / searches"]));
  });
  const weights = [["Samples", "samples"], data.is_time ? ["Time", "time", "what samples stand for"] : [data.event, "time"]];
  if (data.is_time && data.totals.requests) weights.push(["Per request", "request", "divided by the requests counted in the windows shown"]);
  if (data.is_time && data.totals.rx_packets) weights.push(["Per packet", "packet", "divided by the packets received and sent in the windows shown"]);
  const weight = seg("Weight", weights, flame.options.weight, (value) => flame.set({ weight: value }));
  const cycle = () => {
    const at = weights.findIndex((w) => w[1] === flame.options.weight);
    const next = weights[(at + 1) % weights.length][1];
    weight.mark(next);
    flame.set({ weight: next });
  };
  const busy = el("button", { "aria-pressed": "false", title: "Leave empty polling out (b)" }, "Busy only");
  const toggle = () => {
    flame.set({ busy: !flame.options.busy });
    busy.setAttribute("aria-pressed", String(flame.options.busy));
  };
  busy.addEventListener("click", toggle);
  const brief = el("button", { "aria-pressed": "true", title: "One row for callers that only call one another" }, "Short");
  brief.addEventListener("click", () => {
    flame.set({ short: !flame.options.short });
    brief.setAttribute("aria-pressed", String(flame.options.short));
  });
  const search = el("input", { type: "search", id: "search", placeholder: "Search functions ( / )", "aria-label": "Search functions, a regular expression" });
  search.addEventListener("input", () => (state.pick(null), flame.set({ search: search.value })));
  search.addEventListener("keydown", (event) => event.key === "Escape" && (search.value = "", flame.set({ search: "" }), search.blur()));
  const thread = el("select", { "aria-label": "Thread" }, options.label("All threads", -1), data.threads.map((t, at) => options.label(`${t.name} ${t.tid}${t.role ? " · " + t.role : ""}`, at)));
  thread.addEventListener("change", () => flame.set({ thread: +thread.value }));
  const cpus = [...new Set(data.flame.cells.c)].sort((a, b) => a - b);
  const cpu = el("select", { "aria-label": "CPU" }, options.label("All CPUs", -1), cpus.map((n) => options.label("CPU " + n, n)));
  cpu.addEventListener("change", () => flame.set({ cpu: +cpu.value }));
  const split = el("select", { "aria-label": "Split by" }, options.label("Together", ""), options.label("By thread", "thread"), options.label("By CPU", "cpu"));
  split.addEventListener("change", () => flame.set({ split: split.value }));
  const diff = others.length && el("select", { "aria-label": "Beside" }, options.label("Alone", ""), others.map((o, at) => options.label("Beside " + o.name, at)));
  diff && diff.addEventListener("change", () => {
    flame.other = diff.value === "" ? null : others[+diff.value];
    flame.tables[1] = flame.other && prepare(flame.other.flame);
    flame.zoom = [];
    flame.set({ diff: diff.value !== "" });
  });
  const { window_ns, windows } = data.flame;
  const strip = windows > 1 && windowStrip(data, (from, to) => flame.set({ from, to }));
  state.seek = (ns) => {
    const at = Math.min(windows - 1, Math.floor(ns / window_ns));
    strip && strip.choose(at, at + 1);
    go("flame");
  };
  Object.assign(state, { flame, search, toggle, cycle });
  const folded = data.flame.folded > 0 && el("p", { class: "lead" }, `Functions with less than ${percent(data.flame.folded)} of all samples are drawn as part of their callers.`);
  return section("flame", "Flame graph", "useful work and empty polling apart; width is weight, colour is phase; callers above what they call",
    `bypassprof flamegraph ${quoted(data.file)}`,
    el("div", { class: "controls" }, weight, busy, brief, thread, cpu, split, diff || null),
    strip, el("div", { class: "seek" }, crumbs, line, found, search), el("div", { class: "flame" }, flame.canvas), folded);
}

/** A bar for each window of the recording: how much of it was useful. Dragging chooses windows. */
function windowStrip(data, take) {
  const { cells, windows, window_ns } = data.flame;
  const sums = Array.from({ length: windows }, () => [0, 0, 0]);
  for (let i = 0; i < cells.n.length; i++) {
    const kind = EMPTY.includes(cells.r[i]) ? 1 : 0;
    sums[cells.w[i]][kind] += cells.v[i];
    sums[cells.w[i]][2] += cells.s[i];
  }
  const most = Math.max(...sums.map((s) => s[0] + s[1]), 1);
  let [from, to, start] = [0, windows, null];
  const bars = sums.map(([useful, empty, samples], at) => {
    const bar = el("div", { class: "in" },
      el("i", { class: "empty", style: `height:${(100 * (useful + empty)) / most}%` }), el("i", { style: `height:${(100 * useful) / most}%` }));
    return tipped(bar, `${seconds(at * window_ns)} to ${seconds((at + 1) * window_ns)}`, `${percent(empty / Math.max(useful + empty, 1))} empty polling, ${number(samples)} samples`,
      `bypassprof flamegraph --window ${seconds(at * window_ns)}..${seconds((at + 1) * window_ns)}`.replaceAll("\u202f", ""));
  });
  const label = el("span", {});
  const box = el("div", { class: "strip", role: "slider", tabindex: 0, "aria-label": "Windows shown", "aria-valuemin": 0, "aria-valuemax": windows, "aria-valuenow": 0 }, bars);
  const choose = (a, b) => {
    [from, to] = [Math.max(0, Math.min(a, b - 1)), Math.min(windows, b)];
    bars.forEach((bar, at) => bar.classList.toggle("in", at >= from && at < to));
    label.textContent = to - from === windows ? "all windows: drag or arrow keys choose some" : `${seconds(from * window_ns)} to ${seconds(to * window_ns)}; double click shows all`;
    box.setAttribute("aria-valuenow", from);
    box.setAttribute("aria-valuetext", label.textContent);
    take(from, to);
  };
  const at = (event) => {
    const rect = box.getBoundingClientRect();
    return Math.max(0, Math.min(windows - 1, Math.floor(((event.clientX - rect.left) / rect.width) * windows)));
  };
  box.addEventListener("pointerdown", (event) => {
    start = at(event);
    box.setPointerCapture(event.pointerId);
    choose(start, start + 1);
  });
  box.addEventListener("pointermove", (event) => start != null && choose(Math.min(start, at(event)), Math.max(start, at(event)) + 1));
  box.addEventListener("pointerup", () => (start = null));
  box.addEventListener("dblclick", () => choose(0, windows));
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") choose(0, windows);
    else if (step) to - from === windows ? choose(0, 1) : choose(Math.max(0, Math.min(windows - 1, from + step)), Math.max(1, Math.min(windows, to + step)));
    else return;
    event.preventDefault();
  });
  label.textContent = "all windows: drag or arrow keys choose some";
  return Object.assign(el("div", {}, box, el("div", { class: "axis" }, el("span", {}, "0\u202fs"), label, el("span", {}, seconds(windows * window_ns)))), { choose });
}

function draw(all, at) {
  const data = all.recordings[at];
  Object.assign(data, { phases: all.phases, colours: all.colours, meanings: all.meanings });
  const others = all.recordings.filter((_, other) => other !== at);
  state = {};
  state.pick = (phase) => {
    const on = phase && state.phase !== phase ? phase : null;
    state.phase = on;
    document.querySelectorAll(".legend [data-phase]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.phase === on)));
    document.querySelectorAll(".stack [data-phase]").forEach((b) => b.classList.toggle("dim", on != null && b.dataset.phase !== on));
    if (on) state.search.value = "";
    state.flame.set({ phase: on ? all.phases.indexOf(on) : -1, search: state.search.value });
  };
  const follow = (kind, what) => {
    if (kind === "stage") {
      document.querySelectorAll("#stages tr").forEach((row) => row.classList.toggle("on", row.dataset.stage === what));
      go("latency");
    } else if (kind === "phase") {
      if (state.phase !== what) state.pick(what);
      go("flame");
    } else if (kind === "function") {
      state.search.value = what.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      state.flame.set({ search: state.search.value });
      go("flame");
    } else go(kind);
  };
  state.follow = follow;
  const show = (other, kind, what) => {
    $("recording").value = other;
    draw(all, other);
    kind ? state.follow(kind, what) : go("summary");
  };
  $("main").replaceChildren(...(all.ranking ? [ranking(all, show)] : []), summary(data), findings(data, follow), ledger(data, (phase) => state.pick(phase)), flameSection(data, others), latency(data), overTime(data, (ns) => state.seek(ns)),
    el("footer", {}, `Made by bypassprof ${all.version} from ${data.file}. Nothing on this page comes from a network.`));
  document.title = data.headline + " – bypassprof";
  state.flame.draw();
}

function keys(sections) {
  const rows = [["/", "search functions"], ["b", "busy only"], ["w", "next weight"], ["d", "light or dark"], ["1 – " + sections.length, "go to a section"], ["← ↑ → ↓", "walk through the flame graph"],
    ["Enter, Esc", "zoom in, zoom out"], ["?", "these keys"]];
  $("help").replaceChildren(el("h2", {}, "Keys"), el("table", {}, rows.map(([key, what]) => el("tr", {}, el("td", {}, el("kbd", {}, key)), el("td", {}, what)))),
    el("form", { method: "dialog" }, el("button", { style: "margin-top:14px" }, "Close")));
  $("help").showModal();
}

function theme(to) {
  const now = to ?? (document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  document.documentElement.dataset.theme = now;
  state.flame?.draw();
}

async function main() {
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const all = await unpack();
  const sections = all.ranking ? [["ranking", "Which is best"], ...PARTS] : PARTS;
  $("nav").replaceChildren(...sections.map(([id, name]) => el("a", { href: "#" + id }, name)));
  if (all.recordings.length > 1) {
    $("recording").hidden = false;
    $("recording").append(...all.recordings.map((r, at) => el("option", { value: at }, r.name)));
    $("recording").addEventListener("change", () => draw(all, +$("recording").value));
  }
  draw(all, 0);
  $("theme").addEventListener("click", () => theme());
  $("keys").addEventListener("click", () => keys(sections));
  // Paper is light, and graphs are drawn for the colours of the page.
  let shown;
  addEventListener("beforeprint", () => {
    shown = document.documentElement.dataset.theme;
    document.querySelectorAll(".rank details").forEach((details) => (details.open = true));
    theme("light");
  });
  addEventListener("afterprint", () => theme(shown));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea") || $("help").open) return;
    const act = { "/": () => (go("flame"), state.search.focus()), b: () => state.toggle(), w: () => state.cycle(), d: () => theme(), "?": () => keys(sections) }[event.key];
    if (act) act();
    else if (+event.key >= 1 && +event.key <= sections.length) go(sections[event.key - 1][0]);
    else return;
    event.preventDefault();
  });
  if (location.hash) go(location.hash.slice(1));
  document.documentElement.dataset.ready = Math.round(performance.now());
}

main().catch((error) => {
  $("main").replaceChildren(el("p", {}, "This report cannot be drawn: " + error));
  throw error;
});
