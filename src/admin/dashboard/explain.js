// What would become of a request, and why.

import { byId, h } from "./element.js";
import { words } from "./format.js";
import { query, read } from "./gateway.js";
import { sentence } from "./panel.js";

const ANSWERS = { route: "A route takes it", method_not_allowed: "405 Method Not Allowed", not_found: "404 Not Found" };

function pairs(entries) {
  const known = entries.filter(([, value]) => value !== undefined && value !== null && value.length !== 0);
  return h("dl", { class: "pairs" }, ...known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", { class: "path" }, Array.isArray(value) ? value.join(", ") : String(value))]));
}

function table(label, names, rows) {
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, h("table", {},
    h("thead", {}, h("tr", {}, ...names.map((it) => h("th", { scope: "col" }, it)))),
    h("tbody", {}, ...rows.map(([first, ...others]) => h("tr", {}, h("th", { scope: "row", class: "path" }, first ?? ""), ...others.map((it) => h("td", { class: "path" }, it ?? "")))))));
}

/** Who the request comes from, in words. */
function credentials(shown) {
  if (!shown) return null;
  const of = [shown.provider && `by ${shown.provider}`, shown.consumer ?? shown.subject, shown.reason, shown.target];
  return [words(shown.outcome), ...of].filter(Boolean).join(", ");
}

/** What becomes of its answer, in words. */
function kept(shown) {
  if (!shown) return null;
  if (shown.bypass) return `not kept: ${shown.bypass}`;
  return [shown.fresh && `fresh for ${shown.fresh}`, shown.apart_by?.length > 0 && `apart by ${shown.apart_by.join(", ")}`].filter(Boolean).join(", ") || "kept";
}

function shares(services) {
  return services?.length > 1 ? services.map((it) => `${it.service} ${it.percent} %`) : null;
}

function draw(body, answer) {
  const { status } = answer.answer ?? {};
  const parts = [
    h("p", { class: "answer" }, status ? `The gateway answers ${status}` : (ANSWERS[answer.decision] ?? words(answer.decision))),
    pairs([
      ["path", answer.path],
      ["allowed", answer.allow],
      ["route", answer.route],
      ["service", answer.service],
      ["written at", answer.place],
      ["shared by", shares(answer.services)],
      ["copied to", answer.mirror && `${answer.mirror.service} ${answer.mirror.percent} %`],
      ["goes to", answer.urls],
      ["credentials", credentials(answer.credentials)],
      ["kept answer", kept(answer.cache)],
    ]),
  ];
  const conditions = answer.credentials?.conditions ?? [];
  if (conditions.length > 0) {
    parts.push(h("h3", {}, "Rights"), table("Rights", ["Condition", "Holds"], conditions.map((it) => [it.text, it.holds ? "yes" : "no"])));
  }
  if (answer.policies?.length > 0) {
    const rows = answer.policies.map((it) => [it.name, it.text, [it.level === "top" ? "top level" : it.level, it.place].filter(Boolean).join(", ")]);
    parts.push(h("h3", {}, "Policies, in the order in which they run"), table("Policies", ["Policy", "What it says", "Written"], rows));
  }
  if (answer.not_taken?.length > 0) {
    const rows = answer.not_taken.map((it) => [it.route, [it.service, it.place].filter(Boolean).join(", "), (it.reasons ?? []).join("; ")]);
    parts.push(h("h3", {}, "Not taken"), table("Routes that were not taken", ["Route", "Service", "Why"], rows));
  }
  body.replaceChildren(...parts);
}

/** Wires the form up. */
export function prepareExplain() {
  const body = byId("explain-body");
  byId("explain-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const asked = [["method", form.get("method")], ["url", form.get("url").trim()]];
    for (const line of form.get("headers").split("\n")) {
      if (line.trim()) asked.push(["header", line.trim()]);
    }
    try {
      draw(body, await read(query("/explain", asked)));
    } catch (error) {
      body.replaceChildren(sentence(error.kind === "absent" ? "This gateway does not tell." : error.message, true));
    }
  });
}
