// Why requests were refused, by reason.

import { byId, h, s, say, show } from "./element.js";
import { count, words } from "./format.js";
import { sentence } from "./panel.js";

function row() {
  const bar = s("rect", { height: 8, rx: 2 });
  const [name, recent, total] = [h("th", { scope: "row" }), h("td", { class: "number" }), h("td", { class: "number" })];
  const meter = s("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, bar);
  return {
    element: h("tr", {}, name, h("td", { class: "extra" }, meter), recent, total),
    update: (it) => {
      say(name, it.name);
      bar.setAttribute("width", String(it.most > 0 ? (it.requests / it.most) * 100 : 0));
      say(recent, count(it.requests));
      say(total, count(it.total));
    },
  };
}

function table(caption) {
  const rows = h("tbody");
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, caption), h("th", { scope: "col", class: "extra" }, h("span", { class: "hidden" }, "Share")), h("th", { scope: "col", class: "number" }, "Last minute"), h("th", { scope: "col", class: "number" }, "Since the start")));
  return { rows, element: h("table", { class: "bars" }, head, rows) };
}

export class Refusals {
  constructor() {
    this.reasons = table("Reason");
    this.credentials = table("Credentials");
    this.content = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Refused requests by reason" }, this.reasons.element, this.credentials.element);
    this.isKnown = false;
    this.body = byId("refusals-body");
    this.body.replaceChildren(h("div", { class: "waiting", role: "img", "aria-label": "Loading" }));
  }

  /** Nothing is known of it. */
  fail(error) {
    if (!this.isKnown) this.body.replaceChildren(sentence(`Not shown: ${error.message}`));
  }

  /** The last minute. */
  learn(report) {
    this.isKnown = true;
    if (report.refusals.length === 0) {
      this.body.replaceChildren(sentence("No request was refused since the start."));
      return;
    }
    const fill = (part, items, name) => {
      const most = Math.max(0, ...items.map((it) => it.requests));
      const sorted = items.map((it) => ({ ...it, name: name(it), most })).sort((a, b) => b.requests - a.requests || b.total - a.total);
      show(part.rows, sorted, (it) => it.name, row);
      part.element.hidden = items.length === 0;
    };
    fill(this.reasons, report.refusals, (it) => words(it.reason));
    fill(this.credentials, report.credentials, (it) => `${words(it.reason)}${it.mechanism === "none" ? "" : ` (${words(it.mechanism)})`}`);
    if (this.body.firstChild !== this.content) this.body.replaceChildren(this.content);
  }
}
