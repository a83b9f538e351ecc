// Charts of what happens over time, and the small ones in tables. A chart can be read with the mouse, a finger, or
// the arrow keys.

import { h, s, say, mark } from "./element.js";
import { clock, hour } from "./format.js";

const LEFT = 46;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;
/** Milliseconds without a sample that are a gap; a busy machine may miss a second. */
const GAP = 3_500;

/** A round number that is not below another: 1, 2, 2.5, 5 and their tens. */
function ceiling(number) {
  if (number <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 2.5, 5, 10].map((it) => it * power).find((it) => it >= number * 0.999);
}

/** The path of a line; where a value is missing it breaks off. */
function line(points) {
  let text = "";
  let isDown = false;
  for (const point of points) {
    if (point === null) isDown = false;
    else {
      text += `${isDown ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      isDown = true;
    }
  }
  return text;
}

/** The path of the area below a line. */
function area(points, ground) {
  let text = "";
  let run = [];
  for (const point of [...points, null]) {
    if (point !== null) run.push(point);
    else if (run.length > 0) {
      text += `${line(run)}L${run.at(-1)[0].toFixed(1)} ${ground}L${run[0][0].toFixed(1)} ${ground}Z`;
      run = [];
    }
  }
  return text;
}

/** How a series looks in the legend. */
function key(name) {
  return s("svg", { viewBox: "0 0 18 8", "aria-hidden": "true" }, s("path", { class: `series ${name}`, d: "M0 4H18" }));
}

/**
 * A chart. `series` are { name, style, value(sample), hasArea }; `format` writes a value; `least` is the least
 * height of the axis.
 */
export class Chart {
  constructor({ title, series, format, least }) {
    this.title = title;
    this.series = series;
    this.format = format;
    this.least = least;
    this.samples = [];
    this.step = 1;
    this.span = 3600;
    this.chosen = null;
    this.readings = series.map(() => h("b"));
    this.moment = h("span");
    const legend = h("p", { class: "legend" }, ...series.map((it, number) => h("span", {}, key(it.style), `${it.name} `, this.readings[number])), this.moment);
    this.svg = s("svg", { "aria-hidden": "true" });
    this.plot = h("div", {
      class: "plot",
      role: "slider",
      tabindex: "0",
      "aria-label": `${title}: a moment in time`,
      "aria-valuemin": "0",
      "aria-valuemax": "0",
      "aria-valuenow": "0",
      pointermove: (event) => this.point(event),
      pointerdown: (event) => this.point(event),
      pointerleave: () => this.choose(null),
      blur: () => this.choose(null),
      keydown: (event) => this.stepBy(event),
    }, this.svg);
    this.element = h("div", { class: "chart" }, h("h3", {}, title), legend, this.plot);
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** Shows samples that are `step` seconds long, of the last `span` seconds. */
  show(samples, step, span) {
    this.samples = samples;
    this.step = step;
    this.span = span;
    this.draw();
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const time = this.start + ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * this.span * 1000;
    let best = null;
    for (const [index, sample] of this.samples.entries()) {
      if (best === null || Math.abs(sample.at - time) < Math.abs(this.samples[best].at - time)) best = index;
    }
    this.choose(best);
  }

  stepBy(event) {
    const last = this.samples.length - 1;
    const from = this.chosen ?? last;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 10, PageDown: from + 10, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.choose(to === null ? null : Math.max(0, Math.min(last, to)));
  }

  choose(index) {
    if (this.chosen === index) return;
    this.chosen = index;
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!width || !height) return;
    const samples = this.samples;
    const end = samples.length > 0 ? samples.at(-1).at + this.step * 1000 : Date.now();
    this.start = end - this.span * 1000;
    const x = (time) => LEFT + ((time - this.start) / (this.span * 1000)) * (width - LEFT - RIGHT);
    const ground = height - BOTTOM;
    const values = this.series.map((it) => samples.map(it.value));
    const highest = Math.max(this.least, ...values.flat().filter((it) => it !== null));
    const top = ceiling(highest);
    const y = (value) => ground - (value / top) * (ground - TOP);
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      const level = Math.round(y(top * part)) + 0.5;
      parts.push(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: level, y2: level }));
      parts.push(s("text", { x: LEFT - 6, y: level + 4, "text-anchor": "end" }, this.format(top * part)));
    }
    const marks = width < 420 ? 3 : 5;
    for (let number = 0; number < marks; number += 1) {
      const time = this.start + (number / (marks - 1)) * this.span * 1000;
      const anchor = number === 0 ? "start" : number === marks - 1 ? "end" : "middle";
      const text = this.span <= 300 ? clock(time) : hour(time);
      parts.push(s("text", { x: x(time), y: height - 5, "text-anchor": anchor }, text));
    }
    for (const [number, series] of this.series.entries()) {
      const points = [];
      for (const [index, sample] of samples.entries()) {
        const before = samples[index - 1];
        if (before && sample.at - before.at > Math.max(GAP, this.step * 1500)) points.push(null);
        const value = values[number][index];
        points.push(value === null ? null : [x(sample.at + this.step * 500), y(value)]);
      }
      if (series.hasArea) parts.push(s("path", { class: `area ${series.style}`, d: area(points, ground) }));
      parts.push(s("path", { class: `series ${series.style}`, d: line(points) }));
      for (const [index, point] of points.entries()) {
        // A value alone between gaps would be no line.
        if (point && !points[index - 1] && !points[index + 1]) parts.push(s("circle", { class: `series ${series.style}`, cx: point[0], cy: point[1], r: 1.2 }));
      }
    }
    const chosen = samples[Math.min(this.chosen ?? samples.length - 1, samples.length - 1)];
    if (this.chosen !== null && chosen) {
      const place = x(chosen.at + this.step * 500);
      parts.push(s("line", { class: "cursor", x1: place, x2: place, y1: TOP, y2: ground }));
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts);
    this.tell(chosen);
  }

  tell(sample) {
    const texts = this.series.map((it) => {
      const value = sample ? it.value(sample) : null;
      return value === null ? "–" : this.format(value);
    });
    for (const [number, text] of texts.entries()) say(this.readings[number], text);
    say(this.moment, this.chosen === null || !sample ? "" : `at ${clock(sample.at)}`);
    const index = sample ? this.samples.indexOf(sample) : 0;
    mark(this.plot, "aria-valuemax", Math.max(0, this.samples.length - 1));
    mark(this.plot, "aria-valuenow", index);
    const spoken = this.series.map((it, number) => `${it.name} ${texts[number]}`).join(", ");
    mark(this.plot, "aria-valuetext", sample ? `${clock(sample.at)}: ${spoken}` : "nothing yet");
  }
}

/** A small chart of counts by the minute, with the bad ones among them. */
export function spark(counts, bad) {
  const [width, height] = [96, 22];
  const top = Math.max(1, ...counts);
  const at = (values) => values.map((value, index) => [width - (values.length - 1 - index) * (width / 60), height - 2 - (value / top) * (height - 4)]);
  const parts = [s("path", { class: "area accent", d: area(at(counts), height - 1) }), s("path", { class: "series accent", d: line(at(counts)) })];
  if (bad.some((it) => it > 0)) parts.push(s("path", { class: "series fault", d: line(at(bad)) }));
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...parts);
}
