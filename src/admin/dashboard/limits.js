// Rate limits with the keys that press most, each of which may begin anew.

import { byId, h, say, show } from "./element.js";
import { count, many } from "./format.js";
import { query } from "./gateway.js";
import { Panel } from "./panel.js";

function written(key) {
  return key.map((part) => part ?? "(none)").join(", ") || "everyone";
}

export class Limits {
  constructor({ perform }) {
    this.perform = perform;
    this.panel = new Panel(byId("limits-body"), "/limits?top=5", (answer, content) => this.draw(answer, content));
  }

  load(anew) {
    return this.panel.load(anew);
  }

  draw({ limits }, content) {
    if (limits.length === 0) return "No rate limit is configured.";
    show(content, limits, (it) => `${it.limit} ${it.place}`, (it) => this.limit(it));
    return undefined;
  }

  limit(limit) {
    const note = h("p", { class: "note" });
    const rows = h("tbody");
    const table = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Top keys of ${limit.limit}` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col", class: "number" }, "Requests"), h("th", { scope: "col", class: "number" }, "Refused"), h("th", { scope: "col", class: "number" }, "Left"), h("th", { scope: "col", class: "number" }, h("span", { class: "hidden" }, "Change")))), rows));
    const element = h("article", { class: "limit", "aria-label": limit.limit }, h("div", { class: "title" }, h("h3", { class: "path" }, limit.limit), h("p", { class: "note" }, `${count(limit.quota)} in ${limit.window}, by ${limit.by.join(", ") || "everyone"}${limit.enforced ? "" : ", only tried out"}`)), note, table);
    return {
      element,
      update: (it) => {
        const parts = [many(it.keys, "key"), it.place];
        if (it.decisions) parts.unshift(`${count(it.decisions.refused)} refused, ${count(it.decisions.admitted)} admitted since the start`);
        say(note, parts.join(" · "));
        const keys = it.top_keys ?? [];
        table.hidden = keys.length === 0;
        show(rows, keys, (key) => JSON.stringify(key.key), (key) => this.key(it.limit, key.key));
      },
    };
  }

  key(limit, key) {
    const name = written(key);
    const [asked, refused, left] = ["number", "number", "number"].map((style) => h("td", { class: style }));
    const path = query("/limits", [["limit", limit], ...key.map((part) => ["key", part ?? ""])]);
    const reset = h("button", {
      type: "button", "aria-label": `Reset ${name} of ${limit}`,
      click: () => this.perform("DELETE", path, {
        title: `Reset ${name}?`, text: `It begins anew at ${limit}, with all of its limit left.`, confirm: "Reset", done: `${name} of ${limit}: reset`,
      }),
    }, "Reset");
    // What a request lacks is no key that can be named.
    reset.disabled = key.some((part) => part === null);
    return {
      element: h("tr", {}, h("th", { scope: "row", class: "path" }, name), asked, refused, left, h("td", { class: "number" }, reset)),
      update: (it) => {
        say(asked, count(it.requests));
        say(refused, count(it.refused));
        say(left, it.remaining === undefined || it.remaining === null ? "–" : count(it.remaining));
      },
    };
  }
}
