// The configuration in force, a line each, with the place where it is written.

import { byId, h, say } from "./element.js";
import { clock } from "./format.js";
import { Panel } from "./panel.js";

/** Lines that are drawn; who wants to see others searches. */
const MOST = 2000;

function escaped(key) {
  return String(key).replaceAll("~", "~0").replaceAll("/", "~1");
}

/** The lines of a value: their depth, key, text and pointer. */
function* lines(value, pointer = "", depth = 0) {
  const isList = Array.isArray(value);
  for (const [key, inner] of Object.entries(value)) {
    const place = `${pointer}/${escaped(key)}`;
    const isNested = inner !== null && typeof inner === "object" && Object.keys(inner).length > 0;
    const text = isNested ? "" : typeof inner === "string" ? inner : JSON.stringify(inner);
    yield { depth, key: isList ? "-" : `${key}:`, text, pointer: place };
    if (isNested) yield* lines(inner, place, depth + 1);
  }
}

/** The dash of a list stands before the first line of what is listed. */
function joined(all) {
  const found = [];
  let dash = null;
  for (const it of all) {
    if (it.key === "-" && it.text === "") {
      dash = it;
      continue;
    }
    const isFirst = dash !== null && it.depth === dash.depth + 1;
    found.push({ ...it, indent: isFirst ? `${"  ".repeat(dash.depth)}- ` : "  ".repeat(it.depth) });
    dash = null;
  }
  return found;
}

export class Configuration {
  constructor() {
    this.panel = new Panel(byId("configuration-body"), "/config", (answer, content) => this.draw(answer, content));
    for (const id of ["configuration-written", "configuration-search"]) byId(id).addEventListener("input", () => this.panel.draw());
  }

  load(anew) {
    return this.panel.load(anew);
  }

  draw({ file, generation, loaded, config, origins }, content) {
    say(byId("configuration-note"), `${file} · generation ${generation} · in force since ${clock(loaded)}`);
    const wanted = byId("configuration-search").value.trim().toLowerCase();
    const isShort = byId("configuration-written").checked;
    const places = Object.keys(origins);
    // What a written thing stands in is written, too.
    const written = new Set(places);
    for (const place of places) {
      for (let end = place.lastIndexOf("/"); end > 0; end = place.lastIndexOf("/", end - 1)) written.add(place.slice(0, end));
    }
    const all = [...lines(config)].filter((it) => (!isShort || written.has(it.pointer)) && (!wanted || `${it.pointer} ${it.text}`.toLowerCase().includes(wanted)));
    if (all.length === 0) return wanted ? "Nothing matches." : "All of it is by default.";
    const rows = joined(all.slice(0, MOST)).map((it) => h("tr", {},
      h("td", {}, it.indent, h("span", { class: "key" }, it.key), ` ${it.text}`),
      h("td", { class: "quiet" }, origins[it.pointer] ?? (written.has(it.pointer) ? "" : "default"))));
    const table = h("table", {}, h("thead", { class: "hidden" }, h("tr", {}, h("th", { scope: "col" }, "Setting"), h("th", { scope: "col" }, "Written at"))), h("tbody", {}, ...rows));
    const rest = all.length > MOST ? h("p", { class: "empty" }, `${all.length - MOST} more lines: search for what you look for.`) : "";
    content.replaceChildren(h("div", { class: "lines", role: "region", tabindex: "0", "aria-label": "Effective configuration" }, table), rest);
    return undefined;
  }
}
