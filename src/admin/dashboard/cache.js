// Kept answers: how many there are, and letting some go.

import { byId, h } from "./element.js";
import { bytes, count, many, share, words } from "./format.js";
import { Panel } from "./panel.js";

export class Cache {
  constructor({ perform }) {
    const form = byId("purge-form");
    this.panel = new Panel(byId("cache-body"), "/cache", (answer, content) => this.draw(answer, content));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const fields = new FormData(form);
      // What is disabled is not in it.
      const [by, target] = [fields.get("by"), (fields.get("target") ?? "").trim()];
      if (by !== "all" && target === "") {
        form.elements.target.focus();
        return;
      }
      const soft = fields.get("soft") === "on";
      const what = by === "all" ? "all kept answers" : `kept answers by ${by} ${target}`;
      perform("POST", "/purge", {
        title: "Purge kept answers?", text: soft ? `Marks as stale: ${what}.` : `Lets go: ${what}.`, confirm: "Purge",
        body: JSON.stringify({ target: by === "all" ? "all" : { [by]: target }, soft }), done: `purged: ${what}`,
      });
    });
    form.elements.by.addEventListener("change", () => {
      form.elements.target.disabled = form.elements.by.value === "all";
    });
  }

  load(anew) {
    return this.panel.load(anew);
  }

  draw(answer, content) {
    byId("purge-form").hidden = !answer.max_bytes;
    if (!answer.max_bytes) return "No route keeps answers.";
    const results = Object.entries(answer.results ?? {});
    const all = results.reduce((sum, [, number]) => sum + number, 0);
    const rows = results.filter(([, number]) => number > 0).flatMap(([name, number]) => [h("dt", {}, words(name)), h("dd", {}, `${count(number)} (${share(number, all)})`)]);
    content.replaceChildren(
      h("p", {}, `${many(answer.objects ?? 0, "answer")} in ${bytes(answer.bytes ?? 0)} of ${bytes(answer.max_bytes ?? 0)}; ${count(answer.evictions ?? 0)} went for lack of room.`),
      h("dl", { class: "pairs" }, ...rows));
    return undefined;
  }
}
