// The traffic as a whole: four figures, and three charts of the last hour.

import { byId, h, mark, say } from "./element.js";
import { count, duration, rate, share } from "./format.js";
import { Chart } from "./chart.js";
import { read } from "./gateway.js";

/** Ranges in seconds, with the seconds of their samples. */
const STEPS = new Map([[300, 1], [900, 10], [3600, 10]]);

/** A sample with its time as a number. */
function timed(sample) {
  return { ...sample, at: Date.parse(sample.time) };
}

export class Traffic {
  constructor() {
    this.span = 3600;
    this.samples = [];
    this.recent = [];
    this.figures = {};
    this.listeners = [];
    this.loadNumber = 0;
    const perSecond = (field) => (sample) => sample[field] / this.step;
    const percent = (field) => (sample) => (sample.requests > 0 ? (sample[field] / sample.requests) * 100 : null);
    this.charts = [
      new Chart({
        title: "Requests per second",
        least: 1,
        format: rate,
        series: [
          { name: "all", style: "accent", hasArea: true, value: perSecond("requests") },
          { name: "refused", style: "refusal", value: perSecond("refused") },
        ],
      }),
      new Chart({
        title: "Error rate",
        least: 1,
        format: (value) => `${value < 10 && value > 0 ? value.toFixed(1) : Math.round(value)} %`,
        series: [{ name: "5xx or no answer", style: "fault", hasArea: true, value: percent("errors") }],
      }),
      new Chart({
        title: "Time to answer",
        least: 1000,
        format: (value) => duration(Math.round(value)),
        series: [
          { name: "p50", style: "first", value: (sample) => sample.p50_us ?? null },
          { name: "p95", style: "second", value: (sample) => sample.p95_us ?? null },
          { name: "p99", style: "third", value: (sample) => sample.p99_us ?? null },
        ],
      }),
    ];
    byId("charts").replaceChildren(...this.charts.map((chart) => chart.element));
    for (const name of ["Requests per second", "Error rate", "Time to answer, p95", "In flight"]) {
      const value = h("dd", {}, "–");
      this.figures[name] = value;
      byId("figures").append(h("div", {}, h("dt", {}, name), value));
    }
    byId("range").addEventListener("change", (event) => {
      this.span = Number(event.target.value);
      this.samples = [];
      this.load().catch(() => {});
    });
  }

  get step() {
    return STEPS.get(this.span);
  }

  /** Loads the whole range, or what is new of it. Returns the report. */
  async load(isWhole = true) {
    this.loadNumber += 1;
    const [number, span] = [this.loadNumber, this.span];
    const last = isWhole || this.samples.length === 0 ? span : Math.max(60, 3 * this.step);
    const report = await read(`/traffic?last=${last}&step=${this.step}`);
    if (number === this.loadNumber && span === this.span) {
      const samples = report.samples.map(timed);
      // What the page knows of before stays: a gateway that was upgraded begins anew.
      const [first, newest] = [samples[0]?.at ?? Number.POSITIVE_INFINITY, samples.at(-1)?.at ?? 0];
      const before = this.samples.filter((it) => it.at < first);
      const after = this.step === 1 ? this.samples.filter((it) => it.at > newest && it.at > first) : [];
      this.samples = [...before, ...samples, ...after];
      this.draw();
    }
    return report;
  }

  /** A second has passed. */
  tick(live) {
    const sample = timed(live);
    this.recent.push(sample);
    this.recent = this.recent.filter((it) => it.at > sample.at - 60_000);
    if (this.step === 1 && this.samples.length > 0 && sample.at > this.samples.at(-1).at) this.samples.push(sample);
    this.draw();
    this.drawFigures();
  }

  draw() {
    const newest = this.samples.at(-1)?.at ?? 0;
    this.samples = this.samples.filter((it) => it.at > newest - this.span * 1000);
    for (const chart of this.charts) chart.show(this.samples, this.step, this.span);
  }

  drawFigures() {
    const newest = this.recent.at(-1);
    const ten = this.recent.filter((it) => it.at > newest.at - 10_000);
    const sum = (samples, field) => samples.reduce((total, it) => total + it[field], 0);
    const [requests, errors] = [sum(this.recent, "requests"), sum(this.recent, "errors")];
    this.figure("Requests per second", rate(sum(ten, "requests") / ten.length), "last 10 s");
    const state = requests > 0 && errors / requests >= 0.05 ? "bad" : null;
    this.figure("Error rate", share(errors, requests), "last minute", state);
    this.figure("In flight", count(newest.in_flight), "now");
  }

  /** The last minute, as the gateway has it. */
  latency(report) {
    this.figure("Time to answer, p95", duration(report.recent.p95_us), "last minute");
  }

  figure(name, text, of, state = null) {
    const element = this.figures[name];
    say(element, text);
    element.append(h("small", {}, of));
    mark(element.parentElement, "data-state", state);
  }
}
