// The table of routes: searched, sorted, with the last minute and the last hour of each.

import { byId, h, mark, say, show } from "./element.js";
import { spark } from "./chart.js";
import { count, duration, many, rate, share } from "./format.js";
import { routeKey } from "./live.js";
import { Panel } from "./panel.js";

/** Rows that are shown before somebody asks for all. */
const MOST = 100;

const COLUMNS = [
  { name: "Route", value: (it) => it.name },
  { name: "Service", value: (it) => it.service, style: "extra" },
  { name: "Requests", value: (it) => it.rate, isNumber: true },
  { name: "Errors", value: (it) => it.errorShare, isNumber: true },
  { name: "p50", value: (it) => it.p50 ?? -1, isNumber: true, style: "extra" },
  { name: "p95", value: (it) => it.p95 ?? -1, isNumber: true },
  { name: "p99", value: (it) => it.p99 ?? -1, isNumber: true, style: "extra" },
  { name: "Last hour", value: (it) => it.hour, isNumber: true, style: "extra" },
];

export class Routes {
  constructor() {
    this.column = 2;
    this.isAscending = false;
    this.isWhole = false;
    this.report = null;
    this.panel = new Panel(byId("routes-body"), "/routes", (answer, content) => this.draw(answer, content), () => this.seen());
    this.search = byId("routes-search");
    this.search.addEventListener("input", () => this.panel.draw());
    this.rows = h("tbody");
    this.more = h("button", { type: "button", click: () => { this.isWhole = true; this.panel.draw(); } });
    this.none = h("p", { class: "empty", hidden: true }, "No route matches.");
    this.heads = COLUMNS.map((column, index) => h("th", { scope: "col", class: [column.isNumber && "number", column.style].filter(Boolean).join(" ") },
      h("button", { type: "button", click: () => this.sort(index) }, column.name)));
    this.table = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Table of routes" }, h("table", {}, h("thead", {}, h("tr", {}, ...this.heads)), this.rows));
  }

  /** The routes as they were told last. */
  get all() {
    return this.panel.answer;
  }

  load(anew) {
    return this.panel.load(anew);
  }

  /** The last minute. */
  learn(report) {
    this.report = report;
    if (this.panel.isAbsent) this.panel.answer = this.seen();
    this.panel.draw();
  }

  /** Where routes can't be told, those that had requests are. */
  seen() {
    return (this.report?.routes ?? []).map((it) => ({ name: it.route, service: it.service }));
  }

  sort(index) {
    this.isAscending = this.column === index ? !this.isAscending : !COLUMNS[index].isNumber;
    this.column = index;
    this.panel.draw();
  }

  /** A row's figures, from the last minute. */
  entries(routes) {
    const traffic = new Map((this.report?.routes ?? []).map((it) => [routeKey(it.service, it.route), it]));
    const seconds = Math.max(1, this.report?.window_s ?? 60);
    const numbers = new Map();
    return routes.map((route) => {
      const name = routeKey(route.service, route.name);
      // Routes of one name differ in their hosts or methods, and are counted together.
      const number = numbers.get(name) ?? 0;
      numbers.set(name, number + 1);
      const came = traffic.get(name);
      const minutes = came?.requests_by_minute ?? [];
      return {
        ...route, came, minutes,
        key: `${name}\u0000${number}`,
        bad: came?.errors_by_minute ?? [],
        rate: (came?.requests ?? 0) / seconds,
        errorShare: came?.requests ? came.errors / came.requests : 0,
        p50: came?.p50_us, p95: came?.p95_us, p99: came?.p99_us,
        hour: minutes.reduce((sum, it) => sum + it, 0),
      };
    });
  }

  draw(routes, content) {
    if (routes.length === 0) return "No route is configured, or none has had a request.";
    const wanted = this.search.value.trim().toLowerCase();
    const text = (it) => [it.name, it.service, it.place, ...(it.hosts ?? []), ...(it.methods ?? [])].join(" ").toLowerCase();
    const found = this.entries(routes).filter((it) => text(it).includes(wanted));
    const { value } = COLUMNS[this.column];
    const order = (a, b) => (typeof value(a) === "number" ? value(a) - value(b) : String(value(a)).localeCompare(String(value(b))));
    found.sort((a, b) => (this.isAscending ? order(a, b) : order(b, a)) || a.name.localeCompare(b.name));
    for (const [index, head] of this.heads.entries()) {
      mark(head, "aria-sort", index === this.column ? (this.isAscending ? "ascending" : "descending") : null);
    }
    const shown = this.isWhole ? found : found.slice(0, MOST);
    show(this.rows, shown, (it) => it.key, () => this.row());
    say(byId("routes-note"), wanted ? `${count(found.length)} of ${many(routes.length, "route")}` : many(routes.length, "route"));
    say(this.more, `Show all ${count(found.length)}`);
    this.more.hidden = shown.length === found.length;
    this.none.hidden = found.length > 0;
    if (content.firstChild !== this.table) content.replaceChildren(this.table, this.none, this.more);
    return undefined;
  }

  row() {
    const [name, details] = [h("span", { class: "path" }), h("div", { class: "quiet" })];
    const service = h("td", { class: "extra path" });
    const cells = COLUMNS.slice(2).map((column) => h("td", { class: `number ${column.style ?? ""}` }));
    let drawn = "";
    return {
      element: h("tr", {}, h("th", { scope: "row" }, name, details), service, ...cells),
      update: (it) => {
        say(name, it.name);
        const parts = [it.kind && it.kind !== "exact" ? it.kind : null, it.methods?.join(" "), it.hosts?.join(" "), it.action && it.action !== "forward" ? it.action : null, it.place];
        say(details, parts.filter(Boolean).join(" · "));
        say(service, it.service);
        const texts = [`${rate(it.rate)}/s`, it.came ? share(it.came.errors, it.came.requests) : "–", duration(it.p50), duration(it.p95), duration(it.p99)];
        for (const [index, text] of texts.entries()) say(cells[index], text);
        cells[1].className = it.errorShare > 0 ? "number wrong" : "number";
        const series = `${it.minutes.join()}|${it.bad.join()}`;
        if (series !== drawn) {
          drawn = series;
          const label = h("span", { class: "hidden" }, `${count(it.hour)} requests`);
          cells[5].replaceChildren(...(it.hour > 0 ? [spark(it.minutes, it.bad), label] : ["–"]));
        }
      },
    };
  }
}
