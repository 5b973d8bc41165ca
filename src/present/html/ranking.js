"use strict";
// Recordings of one workload side by side: which is best, and what limits the others, in words.

/** A length in bytes as people say it. */
function bytes(count) {
  const [unit, size] = count >= 1 << 20 ? ["MiB", 1 << 20] : count >= 1024 ? ["KiB", 1024] : ["bytes", 1];
  return (count / size).toFixed(size > 1 ? 1 : 0).replace(/\.0$/, "") + "\u202f" + unit;
}

const connections = (count) => number(count) + (count === 1 ? " connection" : " connections");

function ranking(all, show) {
  const { groups, unranked } = all.ranking;
  const names = (places) => places.map((at) => all.recordings[at].name).join(", ");
  const told = new Set([...unranked, ...groups.flatMap((group) => group.rows.map((row) => row.recording))]);
  const alone = all.recordings.map((_, at) => at).filter((at) => !told.has(at));
  return section("ranking", "Which is best, and what limits the others",
    "recordings with the same work to do; a difference counts if it is significant over the run", null,
    groups.map((group) => work(all, group, show)),
    alone.length > 0 && el("p", { class: "lead" }, `Not ranked: ${names(alone)}. No other recording here has replies of that length on as many connections.`),
    unranked.length > 0 && el("p", { class: "lead" }, `Not ranked: ${names(unranked)}. No requests were counted: nothing tells how well it did.`));
}

/** What of the whole width the longest bar has: its interval has to go somewhere. */
const ROOM = 0.96;

/** Replies from here on are told in bytes a second too. */
const LARGE = 4096;

const said = (remark) => (remark.refuses ? "Not the same thing: " : "") + remark.text;

/** Whether other programs took so much CPU time that nothing can be decided. */
const disturbed = (row) => !row.against.decided && row.against.remarks.some((remark) => remark.id === "disturbed");

/** One workload: a sentence, and a row for each recording. */
function work(all, group, show) {
  const { rows } = group;
  const files = rows.map((row) => quoted(all.recordings[row.recording].file)).join(" ");
  const anyway = group.anyway ? "--anyway " : "";
  const value = (row) => (group.by === "rate" ? row.rate : row.latency_ns);
  const most = Math.max(...rows.map(value), 1e-9);
  return el("article", { class: "work-group" },
    el("h3", {}, `Replies of ${bytes(group.reply_bytes)} on ${connections(group.connections)}`),
    el("p", { class: "verdict" }, verdict(all, group)),
    el("div", { class: "ranks" }, rows.map((row, at) => rank(all, group, row, at, (ROOM * value(row)) / most, show))),
    [...new Set(rows.flatMap((row) => row.against?.remarks ?? []).map(said))].map((text) => el("p", { class: "note" }, text)),
    command(`bypassprof compare --json ${anyway}${files}`), " ", command(`bypassprof explain --json ${anyway}${files}`));
}

/** Who is best, and whether that is sure. */
function verdict(all, group) {
  const [best, ...others] = group.rows;
  const name = (row) => el("b", {}, all.recordings[row.recording].name);
  const list = (rows) => rows.flatMap((row, at) => [at === 0 ? "" : at === rows.length - 1 ? " and " : ", ", name(row)]);
  const taken = others.filter(disturbed);
  const close = others.filter((row) => !row.against.decided && !taken.includes(row));
  const most = group.by === "rate"
    ? `${short(best.rate)} requests a second, ${short(best.rate * group.reply_bytes)}B a second`
    : `${duration(best.latency_ns)} in the server on average`;
  const open = taken.length ? [" Not decided for ", ...list(taken), ": other programs took its CPU time."] : [];
  if (close.length === others.length) {
    return ["No significant difference: ", ...list(group.rows), ` answer about as much (${most} for the first).`];
  }
  return [name(best), group.by === "rate" ? " answers most: " : " is soonest, with as many requests a second as the others: ", most + ".",
    ...(close.length ? [" ", ...list(close), close.length > 1 ? " do not differ from it significantly." : " does not differ from it significantly."] : []), ...open];
}

function rank(all, group, row, at, width, show) {
  const data = all.recordings[row.recording];
  const { against } = row;
  const half = group.by === "rate" ? (row.rate_half / row.rate) * width : 0;
  const bar = el("div", { class: "track" }, el("i", { class: at === 0 ? "best" : "", style: `width:${100 * width}%` }),
    half > 0.002 && el("u", { style: `left:${100 * (width - half)}%;width:${200 * half}%` }));
  const value = group.by === "rate" ? `${short(row.rate)}\u202f/s` : duration(row.latency_ns);
  const carried = group.by === "rate" && group.reply_bytes >= LARGE && `${short(row.rate * group.reply_bytes)}B/s · `;
  const beside = !against ? "best" : disturbed(row) ? times(group.by, against.ratio) + ", not decided: other programs took its CPU time"
    : times(group.by, against.ratio) + (against.decided ? "" : ", no significant difference");
  return el("div", { class: "rank" },
    el("div", { class: "who" }, el("button", { click: () => show(row.recording), title: "shows this recording below" }, data.name), el("small", {}, data.command)),
    el("div", {}, bar, el("div", { class: "num" }, el("b", {}, value), " ", el("span", {}, carried, beside)),
      el("div", { class: "small-numbers" }, `${duration(row.work_ns)} of work a request` + (row.p50 != null ? ` · in the server median ${duration(row.p50)}, 99\u202f% within ${duration(row.p99)}` : "")),
      limits(all, group, row, show)));
}

/** How a recording stands to the best one, with the 95 % interval. */
function times(by, [ratio, low, high]) {
  if (by === "rate") return `${percent(ratio)} of the best (95\u202f%: ${percent(low)} to ${percent(high)})`;
  return `${ratio.toFixed(2)} times as long (95\u202f%: ${low.toFixed(2)} to ${high.toFixed(2)})`;
}

/** What limits a recording by itself and what makes it worse than the best one: a sentence each, and all causes behind them. */
function limits(all, group, row, show) {
  const data = all.recordings[row.recording];
  const best = all.recordings[group.rows[0].recording].name;
  const link = ([kind, what]) => el("a", { href: "#ranking", class: "lead-there", click: (event) => (event.preventDefault(), show(row.recording, kind, what)) }, "Show\u00a0→");
  const [finding] = data.findings;
  const own = finding
    ? tipped(el("p", { class: "limit" }, el("b", {}, "What limits it: "), finding.title, el("span", { class: "size" }, ` (${sized(finding)}; ${finding.confidence})`), reason(all, finding), " ", link(finding.place)),
      `${finding.id}: ${finding.title}`, ...finding.evidence, "try: " + finding.try)
    : el("p", { class: "limit" }, el("b", {}, "What limits it: "), "no rule speaks about it; its time by phase tells. ", link(["ledger", ""]));
  if (!row.against) return own;
  // Latency holds what the other side cannot tell, if stages are missing there.
  const partial = row.against.remarks.some((remark) => remark.id === "stages");
  const growth = (gap) => (gap.of === "latency" && partial ? 1 : gap.b / gap.a);
  const gaps = row.against.gaps.filter((gap) => gap.decided && gap.by > 0).sort((a, b) => growth(b) - growth(a));
  const beside = el("b", {}, `Beside ${best}: `);
  if (!gaps.length) return [own, el("p", { class: "limit" }, beside, "for a request it neither works more nor has it in the server longer, as far as can be told.")];
  const causes = (gap) => gap.causes.map((cause) => tipped(el("span", {}, cause.title, meaning(all, cause),
    el("span", { class: "size" }, `: ${duration(cause.size_ns_per_request)} more, ${part(cause.share)}; ${cause.confidence}. `), link(cause.place)),
  `${cause.id}: ${cause.title}`, ...cause.evidence, "try: " + cause.try));
  const whole = (gap) => `${duration(gap.by)} ${gap.of === "work" ? "more work for a request" : "longer in the server for a request"} (${duration(gap.b)} instead of ${duration(gap.a)})`;
  const [largest] = causes(gaps[0]);
  const told = gaps.length + gaps.reduce((sum, gap) => sum + gap.causes.length, 0);
  return [own, el("p", { class: "limit" }, beside, whole(gaps[0]), largest && [". It ", largest]),
    told > 2 && el("details", {}, el("summary", {}, "all that differs from " + best),
      el("ul", {}, gaps.map((gap) => el("li", {}, whole(gap), el("ul", {}, causes(gap).map((cause) => el("li", {}, "It ", cause)))))))];
}

/** What a finding rests on besides its size, and what the phase or stage in that is. */
function reason(all, finding) {
  if (finding.evidence.length < 2) return null;
  const title = finding.evidence.at(-1);
  const [, what] = finding.place;
  const at = title.includes(what) ? title.indexOf(what) + what.length : title.length;
  return ["; " + title.slice(0, at), meaning(all, { place: finding.place, title }), title.slice(at)];
}

/** How large a finding is. */
const sized = (finding) => `${percent(finding.size_share)} ${finding.size_of}` + (finding.size_ns_per_request != null ? `, ${duration(finding.size_ns_per_request)} a request` : "");

/** Which part of a gap a cause is; what is less elsewhere makes up for what is more than the whole. */
const part = (share) => (share > 1.005 ? "more than the whole gap: it saves elsewhere" : `${Math.round(100 * share)}\u202f% of the gap`);

/** What the phase or stage is that a cause has in its title. */
function meaning(all, cause) {
  const [kind, what] = cause.place;
  if (!what || !cause.title.includes(what)) return null;
  const stages = all.recordings.flatMap((data) => data.latency?.stages ?? []);
  const means = kind === "phase" ? all.meanings[what] : kind === "stage" ? stages.find((stage) => stage.name === what)?.what : null;
  return means && el("span", { class: "means" }, ` (${means})`);
}
