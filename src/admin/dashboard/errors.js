// The tail of requests that failed or were refused, as they come, and of the slowest ones.

import { byId, h, say, show } from "./element.js";
import { clock, duration, words } from "./format.js";
import { Panel } from "./panel.js";

/** Requests that are shown. */
const MOST = 100;
const PATHS = { failure: `/errors?kind=failure&count=${MOST}`, refusal: `/errors?kind=refusal&count=${MOST}`, slow: `/slow?count=${MOST}` };
const NOTHING = { failure: "No request has failed.", refusal: "No request was refused.", slow: "No request within the last five minutes." };
/** What is said of a request, in this order. */
const DETAILS = ["id", "trace_id", "client", "route", "service", "endpoint", "flags", "attempts", "pipeline_us", "connected_us", "first_byte_us", "total_us"];

export class Errors {
  constructor() {
    this.kind = "failure";
    this.isPaused = false;
    this.list = h("ol", { class: "tail", tabindex: "0", "aria-label": "Requests, newest first" });
    this.panel = new Panel(byId("errors-body"), () => PATHS[this.kind], (answer, content) => this.draw(answer, content));
    byId("errors-kind").addEventListener("change", (event) => {
      this.kind = event.target.value;
      this.panel.answer = [];
      this.panel.load();
    });
    const pause = byId("errors-pause");
    pause.addEventListener("click", () => {
      this.isPaused = !this.isPaused;
      pause.setAttribute("aria-pressed", String(this.isPaused));
      if (!this.isPaused) this.panel.load();
    });
  }

  load(anew) {
    return this.isPaused ? Promise.resolve() : this.panel.load(anew);
  }

  /** A request has failed just now. */
  tell(failure) {
    if (this.isPaused || this.kind !== "failure" || !Array.isArray(this.panel.answer)) return;
    if (this.panel.answer.some((it) => it.id === failure.id)) return;
    this.panel.answer = [failure, ...this.panel.answer].slice(0, MOST);
    this.panel.draw();
  }

  draw(requests, content) {
    if (requests.length === 0) return NOTHING[this.kind];
    show(this.list, requests, (it) => `${it.id} ${it.time}`, (it) => this.row(it));
    if (content.firstChild !== this.list) content.replaceChildren(this.list);
    return undefined;
  }

  row(request) {
    const target = `${request.method} ${request.host ?? ""}${request.path}`;
    const status = request.status === 0 ? "–" : String(request.status);
    const took = h("span", { class: "quiet" });
    say(took, this.kind === "slow" ? duration(request.total_us) : (request.flags ?? []).map(words)[0] ?? "");
    const details = DETAILS.filter((name) => request[name] !== undefined && request[name] !== null && request[name].length !== 0);
    const pairs = details.flatMap((name) => {
      const value = request[name];
      const text = name.endsWith("_us") ? duration(value) : Array.isArray(value) ? value.join(", ") : String(value);
      return [h("dt", {}, words(name.replace(/_us$/, ""))), h("dd", { class: "path" }, text)];
    });
    const element = h("li", {}, h("details", {},
      h("summary", {}, h("time", { class: "quiet", datetime: request.time }, clock(request.time)), h("span", { class: "status" }, status), h("span", { class: "path" }, target), took),
      h("dl", { class: "pairs" }, h("dt", {}, "request"), h("dd", { class: "path" }, target), ...pairs)));
    return { element, update: () => {} };
  }
}
