// What a section shows while it has nothing to show: that it waits, that there is nothing, or why it can't know.

import { h, say } from "./element.js";
import { read } from "./gateway.js";

/** A sentence in the place of content. */
export function sentence(text, isWrong = false) {
  return h("p", { class: isWrong ? "empty wrong" : "empty" }, text);
}

/**
 * A body that loads itself. `path` may be a function; `render(answer, content)` draws into the element it is
 * given, or returns a sentence if there is nothing to draw. `fallback()` is drawn where the path is not there.
 */
export class Panel {
  constructor(body, path, render, fallback = null) {
    this.fallback = fallback;
    this.body = body;
    this.path = path;
    this.render = render;
    this.content = h("div");
    this.isLoading = false;
    this.isAbsent = false;
    this.answer = null;
    body.replaceChildren(h("div", { class: "waiting", role: "img", "aria-label": "Loading" }));
  }

  /** Loads it again. What is shown stays until there is something else. What is not there is asked for `anew` only. */
  async load(anew = false) {
    if (this.isLoading || (this.isAbsent && !anew)) return;
    this.isLoading = true;
    const path = () => (typeof this.path === "function" ? this.path() : this.path);
    try {
      let asked;
      let answer;
      do {
        asked = path();
        answer = await read(asked);
        // Meanwhile something else may be wanted.
      } while (asked !== path());
      this.answer = answer;
      this.isAbsent = false;
      this.draw();
    } catch (error) {
      this.fail(error);
    } finally {
      this.isLoading = false;
    }
  }

  /** Draws what is known. */
  draw() {
    if (this.answer === null) return;
    const nothing = this.render(this.answer, this.content);
    if (typeof nothing === "string") this.place(sentence(nothing));
    else this.place(this.content);
  }

  fail(error) {
    // The banner says so, and what was shown last is better than nothing.
    if (error.kind === "gone" && this.answer !== null) return;
    if (!error.kind) console.error(error);
    this.isAbsent = error.kind === "absent";
    if (this.isAbsent && this.fallback) {
      this.answer = this.fallback();
      this.draw();
      return;
    }
    this.answer = null;
    const text = {
      absent: "This gateway does not tell.",
      locked: `Not shown: ${error.message}`,
    }[error.kind];
    this.place(sentence(text ?? error.message, error.kind !== "absent" && error.kind !== "locked"));
  }

  place(element) {
    const shown = this.body.firstChild;
    if (shown === element) return;
    if (shown?.className === "empty" && element.className === "empty") say(shown, element.textContent);
    else this.body.replaceChildren(element);
  }
}
