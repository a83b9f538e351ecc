// Services: their circuits and their endpoints, with what may be done to them.

import { badge, byId, h, restate, say, show } from "./element.js";
import { count, duration, many, rate, share, words } from "./format.js";
import { query } from "./gateway.js";
import { Panel } from "./panel.js";
import { circuitState, endpointState, serviceState } from "./states.js";

const CIRCUITS = [
  { state: "open", name: "Open circuit", text: "All requests to it are refused until the circuit is set to automatic again." },
  { state: "closed", name: "Close circuit", text: "Requests go to it whatever becomes of them, until the circuit is set to automatic again." },
  { state: "automatic", name: "Automatic", text: "The circuit opens and closes by what becomes of requests." },
];

export class Services {
  /** `perform` does what a button says and has everything loaded again; `live` knows the rates. */
  constructor({ perform, live, endpointKey }) {
    this.perform = perform;
    this.live = live;
    this.endpointKey = endpointKey;
    this.panel = new Panel(byId("services-body"), "/services", (answer, content) => this.draw(answer, content));
    this.traffic = new Map();
  }

  /** The services as they were told last. */
  get all() {
    return this.panel.answer;
  }

  load(anew) {
    return this.panel.load(anew);
  }

  /** The last minute, by service. */
  learn(report) {
    this.traffic = new Map(report.services.map((it) => [it.service, it]));
    this.panel.draw();
  }

  draw(services, content) {
    const rank = { bad: 0, warn: 1, off: 2, good: 3 };
    const sorted = [...services].sort((a, b) => rank[serviceState(a)] - rank[serviceState(b)]);
    const unwell = services.filter((it) => serviceState(it) !== "good").length;
    say(byId("services-note"), unwell === 0 ? many(services.length, "service") : `${unwell} of ${many(services.length, "service")} not well`);
    if (services.length === 0) return "No service has a backend.";
    show(content, sorted, (it) => it.service, (it) => this.service(it.service));
    return undefined;
  }

  service(name) {
    const state = badge("good", "");
    const numbers = h("p", { class: "note" });
    const buttons = CIRCUITS.map((it) => {
      const button = h("button", {
        type: "button",
        click: () => this.perform("POST", query("/circuit", { service: name, state: it.state }), {
          title: `${it.name}: ${name}?`, text: it.text, confirm: it.name, done: `${name}: ${it.name.toLowerCase()}`,
        }),
      }, it.name);
      button.setAttribute("aria-label", `${it.name}: ${name}`);
      return button;
    });
    const rows = h("tbody");
    const table = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Endpoints of ${name}` },
      h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Endpoint"), h("th", { scope: "col" }, "State"), h("th", { scope: "col", class: "number" }, "Rate"), h("th", { scope: "col", class: "number" }, "Errors"), h("th", { scope: "col", class: "number extra" }, "In flight"), h("th", { scope: "col", class: "number extra" }, "Weight"), h("th", { scope: "col", class: "number" }, h("span", { class: "hidden" }, "Change")))),
        rows));
    const element = h("article", { class: "service", "aria-label": name },
      h("div", { class: "title" }, h("h3", { class: "path" }, name), state, h("div", { class: "actions" }, ...buttons)), numbers, table);
    return {
      element,
      update: (service) => {
        restate(state, ...circuitState(service));
        const traffic = this.traffic.get(name);
        const parts = [many(service.in_flight ?? 0, "request") + " under way"];
        if (traffic) parts.push(`${share(traffic.errors, traffic.requests)} errors`, `p95 ${duration(traffic.p95_us)} to the first byte`);
        parts.push(`${count(service.requests ?? 0)} since the start`);
        say(numbers, parts.join(" · "));
        for (const [index, it] of CIRCUITS.entries()) {
          const now = { forced_open: "open", forced_closed: "closed" }[service.circuit_is] ?? "automatic";
          buttons[index].disabled = it.state === now;
        }
        show(rows, service.endpoints ?? [], (it) => it.endpoint, (it) => this.endpoint(name, it.endpoint));
      },
    };
  }

  endpoint(service, name) {
    const state = badge("good", "");
    const [came, errors, flight, weight] = ["number", "number", "number extra", "number extra"].map((style) => h("td", { class: style }));
    const button = h("button", { type: "button" });
    let isDrained = false;
    let isEjected = false;
    button.addEventListener("click", () => {
      const path = query(isDrained || isEjected ? "/enable" : "/drain", { service, endpoint: name });
      const text = isDrained || isEjected ? "Requests go there again." : "No new requests go there; those under way end. It lasts until the endpoint is enabled.";
      const verb = isDrained || isEjected ? "Enable" : "Drain";
      this.perform("POST", path, { title: `${verb} ${name}?`, text, confirm: verb, done: `${name} of ${service}: ${isDrained || isEjected ? "enabled" : "drained"}` });
    });
    return {
      element: h("tr", {}, h("th", { scope: "row", class: "path" }, name), h("td", {}, state), came, errors, flight, weight, h("td", { class: "number" }, button)),
      update: (endpoint) => {
        isDrained = Boolean(endpoint.is_drained);
        isEjected = endpoint.state === "ejected";
        restate(state, ...endpointState(endpoint));
        const now = this.live.rate(this.endpointKey(service, name));
        say(came, `${rate(now.requests)}/s`);
        say(errors, share(now.errors, now.requests));
        errors.className = now.errors > 0 ? "number wrong" : "number";
        say(flight, count(endpoint.in_flight ?? 0));
        say(weight, words(endpoint.weight ?? 1));
        say(button, isDrained || isEjected ? "Enable" : "Drain");
        button.setAttribute("aria-label", `${button.textContent} ${name} of ${service}`);
      },
    };
  }
}
