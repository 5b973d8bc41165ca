"use strict";
// What all parts share: making elements, numbers as text, the tooltip, commands that find a number again.

const $ = (id) => document.getElementById(id);

/** A name from outside without what would change the text around it: control characters, marks of direction, line ends. */
const clean = (text) => text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");

/** An element with attributes and children; functions are listeners. */
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "rect", "g", "title", "circle"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, typeof value === "string" ? clean(value) : value);
  }
  const there = children.flat(Infinity).filter((child) => child != null && child !== false);
  made.append(...there.map((child) => (typeof child === "string" ? clean(child) : child)));
  return made;
}

const number = (value) => Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(size >= 1e10 ? 0 : 1) + "\u202fG";
  if (size >= 1e6) return (value / 1e6).toFixed(size >= 1e7 ? 0 : 1) + "\u202fM";
  if (size >= 1e4) return (value / 1e3).toFixed(size >= 1e5 ? 0 : 1) + "\u202fk";
  if (size >= 100 || Number.isInteger(value)) return number(value);
  return value.toFixed(size >= 10 ? 1 : 2);
}

function duration(ns) {
  if (ns == null) return "–";
  if (ns < 1e3) return Math.round(ns) + "\u202fns";
  if (ns < 1e6) return (ns / 1e3).toFixed(1) + "\u202fµs";
  if (ns < 1e9) return (ns / 1e6).toFixed(1) + "\u202fms";
  return (ns / 1e9).toFixed(2) + "\u202fs";
}

function percent(share) {
  if (share == null) return "–";
  if (share > 0 && share < 0.0005) return "<0.1\u202f%";
  return (share * 100).toFixed(1) + "\u202f%";
}

const seconds = (ns) => (ns / 1e9).toFixed(ns < 1e10 ? 2 : 1).replace(/\.?0+$/, "") + "\u202fs";

/** A command line that prints the numbers beside it, copied when it is clicked. */
function command(text) {
  const button = el("button", { class: "cmd", title: "prints these numbers; click copies it" }, text);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(button);
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 900);
  });
  return button;
}

const quoted = (word) => (/^[\w./:=,+-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'");

/** A section with its heading, what it tells and the command behind it. */
function section(id, title, why, line, ...children) {
  const head = el("div", { class: "head" }, el("h2", {}, title), el("span", { class: "why" }, why), line && command(line));
  return el("section", { id, "aria-label": title }, head, ...children);
}

const tip = {
  show(event, title, ...lines) {
    const box = $("tip");
    box.replaceChildren(el("b", {}, title), ...lines.filter(Boolean).map((line) => el("span", {}, line)));
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - width - 8);
    const below = event.clientY + 18;
    box.style.left = Math.max(8, x) + "px";
    box.style.top = (below + height > innerHeight - 8 ? event.clientY - height - 12 : below) + "px";
  },
  hide() {
    $("tip").hidden = true;
  },
};

/** Listeners that show a tooltip for the pointer and for the keyboard alike. */
function tipped(element, title, ...lines) {
  element.addEventListener("pointermove", (event) => tip.show(event, title, ...lines));
  element.addEventListener("pointerleave", tip.hide);
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    if (element.matches(":focus-visible")) tip.show({ clientX: box.left, clientY: box.bottom - 14 }, title, ...lines);
  });
  element.addEventListener("blur", tip.hide);
  return element;
}

/** Goes to a part of the page and makes it stand out for a moment. */
function go(id) {
  const target = $(id);
  if (!target) return;
  target.scrollIntoView({ block: "start" });
  document.querySelectorAll(".target").forEach((other) => other.classList.remove("target"));
  void target.offsetWidth;
  target.classList.add("target");
}

/** The data of the page: JSON, compressed, in base 64. */
async function unpack() {
  const text = $("data").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  $("data").remove();
  return JSON.parse(await new Response(stream).text());
}
