// The gateway's events, as they come. Not by EventSource, which can't send the token.

import { send } from "./gateway.js";

/** A second without any is a second without a word; after so many the connection is taken for dead. */
const SILENCE = 20_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 15_000;

/** Splits a stream of text into events. */
export class Parser {
  constructor() {
    this.rest = "";
  }

  /** The events that more text completes, as pairs of name and data. */
  push(text) {
    const parts = (this.rest + text).split("\n\n");
    this.rest = parts.pop();
    const events = [];
    for (const part of parts) {
      let name = "message";
      const data = [];
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length > 0) events.push([name, JSON.parse(data.join("\n"))]);
    }
    return events;
  }
}

/**
 * Follows the events for ever. `on.event(name, data)` is told of each, `on.open()` of each beginning, and
 * `on.lost(reason, milliseconds)` of each end, with the time until the next attempt.
 */
export class Events {
  constructor(on) {
    this.on = on;
    this.pause = FIRST_PAUSE;
    this.wake = () => {};
    this.controller = new AbortController();
  }

  /** Tries again at once. */
  retry() {
    this.pause = FIRST_PAUSE;
    this.controller.abort();
    this.wake();
  }

  async follow() {
    for (;;) {
      let reason = "The gateway has closed the connection.";
      this.controller = new AbortController();
      try {
        await this.connect(this.controller);
      } catch (error) {
        reason = error.name === "AbortError" ? "The connection fell silent." : error.message;
      }
      const pause = this.pause;
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
      this.on.lost(reason, pause);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  }

  async connect(controller) {
    let silence = setTimeout(() => controller.abort(), SILENCE);
    try {
      const answer = await send("GET", "/events", { signal: controller.signal });
      if (!answer.ok) throw new Error((await answer.text()).trim() || `The gateway answered ${answer.status}.`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      this.on.open();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        this.pause = FIRST_PAUSE;
        clearTimeout(silence);
        silence = setTimeout(() => controller.abort(), SILENCE);
        for (const [name, data] of parser.push(value)) this.on.event(name, data);
      }
    } catch (error) {
      if (error instanceof TypeError) throw new Error("The connection broke.");
      throw error;
    } finally {
      clearTimeout(silence);
    }
  }
}
