"use strict";
// The parts of the page besides the flame graph: summary, findings, ledger, latency, lines over time.

function summary(data) {
  const threads = data.threads.length;
  const spans = data.latency;
  const total = spans?.stages.find((s) => s.name === "total");
  const wall = data.wall_ns / 1e9;
  const tile = (value, unit, what, href, title) =>
    el("a", { class: "tile", href, title: title ?? "" }, el("b", {}, value, unit && el("small", {}, unit)), el("span", {}, what));
  const tiles = [
    data.wall_ns > 0 && tile(wall.toFixed(wall < 10 ? 2 : 1), "s", "recorded", "#time"),
    data.useful_share != null && tile((data.useful_share * 100).toFixed(1), "%", "of probed threads' CPU time is useful work", "#ledger"),
    data.useful_share == null && data.useful_estimate != null &&
      tile("~" + (data.useful_estimate * 100).toFixed(0), "%", "of pollers' samples are useful: an estimate from poll symbols", "#ledger"),
    data.totals.requests > 0 && tile(short(data.totals.requests / wall), "/s", number(data.totals.requests) + " requests", "#time"),
    data.work_ns != null && tile(duration(data.work_ns).replace("\u202f", " "), "", "of work for a request", "#ledger"),
    total && total.count > 0 && tile(duration(total.p50), "", "median way of a request through the server", "#latency"),
    total && total.count > 0 && tile(duration(total.p99), "", "99 % are shorter", "#latency"),
    data.totals.rx_packets > 0 && tile(short(data.totals.rx_packets / wall), "/s", "packets received" + (data.totals.rx_bursts > 0 ? ", " + short(data.totals.rx_packets / data.totals.rx_bursts) + " a burst" : ""), "#time"),
    tile(number(threads), "", threads === 1 ? "thread" : "threads", "#flame"),
    tile(short(data.trust.samples), "", "samples of " + data.event, "#flame"),
  ].filter(Boolean);
  const bad = data.trust.samples_lost > 0 || data.trust.events_dropped > 0 || data.trust.damage || data.trust.rings_unreached > 0;
  return el("section", { id: "summary", class: "plain", "aria-label": "Summary" },
    el("h1", {}, data.headline),
    data.findings.length > 0 && el("p", { class: "verdict" }, "What limits it: ", el("a", { href: "#findings" }, data.findings[0].title), ` (${sized(data.findings[0])}).`),
    el("p", { class: "lead" }, [data.host, data.cpu, data.kernel && "Linux " + data.kernel, data.packs.length && "packs " + data.packs.join(", ")].filter(Boolean).join(" · ")),
    el("div", { class: "trust" + (bad ? " bad" : "") }, data.trust_line),
    data.notices.map((notice) => el("p", { class: "note" }, notice.text)),
    el("div", { class: "tiles" }, tiles),
    command(`bypassprof report --json ${quoted(data.file)}`), " ", data.latency && command(`bypassprof spans --json ${quoted(data.file)}`));
}

function findings(data, follow) {
  const largest = Math.max(...data.findings.map((f) => f.size_share), 1e-9);
  const rows = data.findings.map((finding) => {
    const [kind, what] = finding.place;
    const name = { stage: "the stage " + what, phase: "the phase " + what, function: what, ledger: "the ledger", time: "lines over time" }[kind];
    return el("article", { class: "finding", id: "finding-" + finding.id },
      el("div", { class: "size" }, el("b", {}, percent(finding.size_share)),
        el("span", {}, finding.size_of, finding.size_ns_per_request != null && [el("br"), duration(finding.size_ns_per_request) + " a request"]),
        el("div", { class: "meter" }, el("i", { style: `width:${(100 * finding.size_share) / largest}%` }))),
      el("div", {},
        el("h3", {}, el("span", { class: "id" }, finding.id), finding.title, " ", el("span", { class: "chip " + finding.confidence }, finding.confidence)),
        el("ul", {}, finding.evidence.map((line) => el("li", {}, line))),
        el("p", {}, el("b", {}, "Try: "), finding.try),
        el("p", {}, el("a", { href: "#" + { stage: "latency", phase: "flame", function: "flame", ledger: "ledger", time: "time" }[kind],
          class: "follow", click: (event) => (event.preventDefault(), follow(kind, what)) }, "Show " + name + " →"))));
  });
  if (!rows.length) rows.push(el("p", { class: "lead" }, "No rule speaks about this recording. The ledger has its parts."));
  return section("findings", "What limits it", "rules that this recording shows: what limits the rate, then causes, the largest first, then how much room is left", `bypassprof explain --json ${quoted(data.file)}`, rows);
}

/** Pixels of a bar on a common screen, and of a letter on it: what has no room has no name. */
const [NARROWEST, LETTER] = [800, 7];

function ledger(data, pick) {
  const accounts = data.ledger;
  const phases = [...new Set(accounts.flatMap((a) => a.entries.map((e) => e.phase)))];
  const legend = el("div", { class: "legend" }, phases.map((phase) => {
    const button = el("button", { "data-phase": phase, "aria-pressed": "false", click: () => pick(phase) },
      el("i", { style: "background:" + colour(data, phase) }), phase);
    return tipped(button, phase, data.meanings[phase], "click marks its functions in the flame graph");
  }));
  const nothing = ["off_cpu", "empty_poll", "idle"];
  const rows = accounts.slice(0, 40).map((account) => {
    const work = account.entries.filter((e) => !nothing.includes(e.phase)).reduce((sum, e) => sum + e.share, 0);
    const bar = el("div", { class: "stack" }, account.entries.map((entry) => {
      const part = el("button", { "data-all": entry.share, "data-work": nothing.includes(entry.phase) ? 0 : entry.share / Math.max(work, 1e-9), style: `width:${entry.share * 100}%;background:${colour(data, entry.phase)}`, "data-phase": entry.phase,
        "aria-label": `${account.name}: ${entry.phase} ${percent(entry.share)}`, click: () => pick(entry.phase) }, el("span", {}, entry.phase));
      return tipped(part, `${entry.phase}: ${percent(entry.share)}`,
        entry.low !== entry.high && `between ${percent(entry.low)} and ${percent(entry.high)} with 95 % confidence`,
        entry.request_ns != null && duration(entry.request_ns) + " a request", data.meanings[entry.phase], entry.basis);
    }));
    return [el("div", { class: "who " + account.level, title: account.name }, account.name, account.role && el("small", {}, " " + account.role)), bar,
      el("div", { class: "busy" }, account.busy != null ? percent(account.busy) + " busy" : "")];
  });
  const only = el("button", { "aria-pressed": "false", title: "Leave out time off CPU and empty polling: bars are shares of the work" }, "Work only");
  const resize = () => {
    const key = only.getAttribute("aria-pressed") === "true" ? "work" : "all";
    rows.flat().forEach((row) => row.querySelectorAll?.(".stack button, button[data-all]").forEach((part) => {
      part.style.width = part.dataset[key] * 100 + "%";
      part.hidden = +part.dataset[key] === 0;
      part.firstChild.hidden = part.dataset[key] * NARROWEST < part.textContent.length * LETTER + 8;
    }));
  };
  only.addEventListener("click", () => (only.setAttribute("aria-pressed", String(only.getAttribute("aria-pressed") !== "true")), resize()));
  resize();
  const table = el("details", {}, el("summary", {}, "As a table"), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["account", "phase", "share", "low", "high", "a request", "told by"].map((h) => el("th", {}, h)))),
    el("tbody", {}, accounts.flatMap((a) => a.entries.map((e) => el("tr", {}, el("td", {}, a.name), el("td", { class: "left" }, e.phase),
      [percent(e.share), percent(e.low), percent(e.high), e.request_ns != null ? duration(e.request_ns) : "–", e.basis].map((t) => el("td", {}, t)))))))));
  return section("ledger", "Where the time went", (data.timed ? "wall time" : "samples") + " of the program, its roles and its threads by phase: each bar is 100 %",
    `bypassprof ledger --json ${quoted(data.file)}`, el("div", { class: "controls" }, only), el("div", { class: "accounts" }, rows), legend,
    accounts.length > 40 && el("p", { class: "lead" }, `and ${accounts.length - 40} more in the table`), table);
}

const colour = (data, phase) => data.colours[data.phases.indexOf(phase)] ?? ({ "off CPU": "#e9e4da", unaccounted: "#f4d4d4" }[phase] ?? "#e8e8e8");

function latency(data) {
  const spans = data.latency;
  if (!spans) {
    return section("latency", "Requests", "no probes told where requests begin and end", null,
      el("p", { class: "lead" }, "Record a program that is linked with probes to see where its requests wait."));
  }
  const total = spans.stages.find((s) => s.name === "total");
  const show = (request, row) => {
    const again = row.classList.contains("on");
    document.querySelectorAll(".slow.on").forEach((r) => r.classList.remove("on"));
    document.querySelectorAll(".opened").forEach((r) => r.remove());
    if (again) return;
    row.classList.add("on");
    const opened = el("tr", { class: "opened", id: "request" }, el("td", { colspan: 4 }, timeline(data, request)));
    row.after(opened);
    if (opened.getBoundingClientRect().bottom > innerHeight) opened.scrollIntoView({ block: "nearest" });
  };
  const stages = el("div", { class: "scroll" }, el("table", { id: "stages" },
    el("thead", {}, el("tr", {}, ["stage", "", "part of the mean", "requests", "mean", "p50", "p90", "p99", "p99.9", "longest"].map((h) => el("th", { class: h.startsWith("part") ? "left" : "" }, h)))),
    el("tbody", {}, spans.stages.filter((s) => s.count > 0).map((s) => tipped(el("tr", { "data-stage": s.name },
      el("td", {}, s.name), el("td", { class: "left" }, el("span", { class: "chip" }, s.name === "total" ? "all" : s.kind)),
      el("td", { class: "left", style: "width:22%" }, s.name !== "total" && el("div", { class: "part " + (s.kind === "work" ? "work" : "waiting"), style: `width:${(100 * s.mean * s.count) / Math.max(total.mean * total.count, 1)}%` })),
      [number(s.count), duration(s.mean), duration(s.p50), duration(s.p90), duration(s.p99), duration(s.p999), duration(s.max)].map((t) => el("td", {}, t))), s.name, s.what)))));
  const slow = el("table", {},
    el("thead", {}, el("tr", {}, ["began", "took", "flow", "where the time went"].map((h) => el("th", { class: h.startsWith("where") ? "left" : "" }, h)))),
    el("tbody", {}, spans.slowest.map((request) => {
      const row = el("tr", { class: "slow", tabindex: 0, role: "button", "aria-label": "request that took " + duration(request.total_ns) },
        el("td", {}, seconds(request.began_ns)), el("td", {}, duration(request.total_ns)), el("td", {}, request.flow),
        el("td", { style: "width:55%" }, el("div", { class: "stack" }, request.stages.map(([stage, length]) => length > 0 &&
          el("button", { tabindex: -1, class: looks(spans, stage), style: `width:${(100 * length) / request.total_ns}%` }, "")))));
      row.addEventListener("click", () => show(request, row));
      row.addEventListener("keydown", (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), show(request, row)));
      return row;
    })));
  const lost = [["torn", "events of them were lost"], ["unfinished", "still on their way at the end"], ["headless", "nothing tells how they came in"]]
    .filter(([key]) => spans[key] > 0).map(([key, why]) => `${number(spans[key])} left out: ${why}`);
  return section("latency", "How long requests took", `${number(spans.requests)} requests from receive burst to transmit burst. ${lost.join("; ")}`,
    `bypassprof spans --json --show ${spans.slowest.length || 10} ${quoted(data.file)}`,
    total && total.count > 0 && distribution(spans, total), stages,
    spans.slowest.length > 0 && el("h3", {}, "The slowest; a click opens one"), el("div", { class: "scroll" }, slow));
}

/** How many times as long as the one before a bin of the distribution is. */
const BIN = 1.09;

/** How many requests took how long: bins of a logarithmic axis. */
function distribution(spans, total) {
  const bins = spans.histogram;
  const [W, H, L, B] = [1180, 170, 8, 22];
  const low = Math.log(Math.max(1, bins[0][0] / BIN)), high = Math.log(bins.at(-1)[0] * 1.05 + 1);
  const x = (ns) => L + ((Math.log(Math.max(1, ns)) - low) / Math.max(high - low, 1e-9)) * (W - 2 * L);
  const most = Math.max(...bins.map((b) => b[1]));
  const svg = el("svg", { class: "chart", viewBox: `0 0 ${W} ${H + B}`, role: "img", "aria-label": "Distribution of request lengths" });
  for (let power = Math.ceil(low / Math.LN10); power <= high / Math.LN10; power++) {
    const at = x(10 ** power);
    svg.append(el("line", { class: "grid", x1: at, x2: at, y1: 0, y2: H }), el("text", { x: at + 3, y: H + 14 }, duration(10 ** power)));
  }
  const step = Math.max(2, ((W - 2 * L) / Math.max(high - low, 0.01)) * Math.log(BIN) - 1);
  for (const [ns, count] of bins) {
    const height = Math.max(1.5, (Math.sqrt(count) / Math.sqrt(most)) * (H - 24));
    const bar = el("rect", { class: "bin", x: x(ns / BIN), y: H - height, width: step, height, rx: 1.5 });
    svg.append(tipped(bar, `${duration(ns / BIN)} to ${duration(ns)}`, number(count) + (count === 1 ? " request" : " requests")));
  }
  let last = -60;
  for (const [name, key] of [["p50", "p50"], ["p90", "p90"], ["p99", "p99"], ["p99.9", "p999"]]) {
    const at = x(total[key]);
    svg.append(el("line", { class: "q", x1: at, x2: at, y1: at - last < 44 ? 16 : 4, y2: H }), el("text", { x: at + 3, y: at - last < 44 ? 26 : 13 }, name));
    last = at;
  }
  return el("div", {}, svg, el("div", { class: "axis" }, el("span", {}, "length of the way, logarithmic; heights are square roots of counts, so that few slow ones are seen"), el("span", {}, number(total.count) + " requests")));
}

/** How a stage looks: as work or as waiting. */
const looks = (spans, name) => (spans.stages.find((stage) => stage.name === name)?.kind === "work" ? "work" : "waiting");

function timeline(data, request) {
  let at = 0, whose = "";
  const rows = request.stages.map(([stage, length]) => {
    const from = at;
    at += length;
    const moment = request.moments.find((m) => m.stage === stage);
    const functions = (moment?.sampled ?? []).map(([name, n]) => `${name}${n > 1 ? " ×" + n : ""}`).join(", ");
    const who = moment && moment.thread !== whose ? (whose = moment.thread) : "";
    const off = moment?.off_cpu_ns > 0 ? duration(moment.off_cpu_ns) + " off CPU" : "";
    return el("div", { class: "row" }, el("div", {}, stage),
      el("div", { class: "track" }, el("i", { class: looks(data.latency, stage), style: `left:${(100 * from) / request.total_ns}%;width:${(100 * length) / request.total_ns}%` })),
      el("div", { class: "num" }, duration(length)),
      el("div", { class: "what" }, [who && "on " + who, off, functions && "sampled in " + functions].filter(Boolean).join(" · ")));
  });
  return el("div", { class: "way", tabindex: -1 },
    el("h3", { style: "margin-top:0" }, `Flow ${request.flow}, from ${seconds(request.began_ns)} on: ${duration(request.total_ns)}`), rows,
    el("div", { class: "legend" }, el("span", {}, el("i", { class: "work" }), " work"), el("span", {}, el("i", { class: "waiting" }), " waiting")),
    command(`bypassprof spans --flow ${request.flow} --show 10 ${quoted(data.file)}`));
}

/** Lines over time, those of one kind together: a thread has a colour. */
function overTime(data, seek) {
  const groups = new Map();
  for (const series of data.series) {
    if (!groups.has(series.name)) groups.set(series.name, []);
    groups.get(series.name).push(series);
  }
  const end = data.wall_ns || 1;
  const hues = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b"];
  const cursors = [];
  const charts = [...groups].map(([name, lines]) => {
    const [W, H, L] = [420, 96, 42];
    const most = Math.max(...lines.flatMap((line) => line.points.map((p) => p[1])), 1e-12);
    const x = (t) => L + (t / end) * (W - L - 4), y = (v) => H - (v / most) * (H - 12);
    const svg = el("svg", { class: "chart", viewBox: `0 0 ${W} ${H + 18}`, role: "img", "aria-label": name });
    for (const share of [0, 0.5, 1]) svg.append(el("line", { class: "grid", x1: L, x2: W, y1: y(most * share), y2: y(most * share) }),
      el("text", { x: L - 5, y: y(most * share) + 4, "text-anchor": "end" }, short(most * share)));
    for (const share of [0, 0.5, 1]) svg.append(el("text", { x: x(end * share), y: H + 14, "text-anchor": ["start", "middle", "end"][share * 2] }, seconds(end * share)));
    lines.forEach((line, at) => {
      const points = line.points.map(([t, v]) => `${x(t).toFixed(1)},${y(v).toFixed(1)}`);
      if (!points.length) return;
      const stroke = hues[(line.thread ?? at) % hues.length];
      if (lines.length === 1) svg.append(el("path", { class: "area", fill: stroke, d: `M${x(line.points[0][0])},${H}L${points.join("L")}L${x(line.points.at(-1)[0])},${H}Z` }));
      svg.append(el("path", { class: "line", stroke, d: "M" + points.join("L") }));
    });
    const cursor = el("line", { class: "cursor", y1: 0, y2: H, visibility: "hidden" });
    cursors.push([cursor, x]);
    svg.append(cursor);
    const when = (event) => {
      const box = svg.getBoundingClientRect();
      return Math.min(end, Math.max(0, (((event.clientX - box.left) * W) / box.width - L) / (W - L - 4)) * end);
    };
    svg.addEventListener("pointermove", (event) => {
      const t = when(event);
      for (const [line, to] of cursors) {
        line.setAttribute("x1", to(t));
        line.setAttribute("x2", to(t));
        line.setAttribute("visibility", "visible");
      }
      tip.show(event, `${name} at ${seconds(t)}`, ...lines.slice(0, 12).map((line) => {
        const point = line.points.find((p) => p[0] >= t) ?? line.points.at(-1);
        return `${line.thread != null ? data.threads[line.thread].name + ": " : ""}${short(point?.[1] ?? 0)} ${line.unit}`;
      }), "click shows this moment's functions");
    });
    svg.addEventListener("pointerleave", () => (tip.hide(), cursors.forEach(([line]) => line.setAttribute("visibility", "hidden"))));
    svg.addEventListener("click", (event) => seek(when(event)));
    const keys = lines.length > 1 ? lines.slice(0, 8).map((line, at) => el("span", {}, el("i", { style: "background:" + hues[(line.thread ?? at) % hues.length] }), " " + data.threads[line.thread]?.name)) : [];
    return el("div", {}, el("h3", {}, name, el("span", {}, lines[0].unit)), svg, keys.length > 0 && el("div", { class: "legend" }, keys));
  });
  return section("time", "Over time", "bursts, queue depths, counters and what rings counted, at each reading", `bypassprof export --format parquet ${quoted(data.file)}`,
    charts.length ? el("div", { class: "small" }, charts) : el("p", { class: "lead" }, "Nothing was counted while this was recorded."));
}
