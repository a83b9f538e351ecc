// Numbers, durations and times as people read them.

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
const HOUR = { hour: "2-digit", minute: "2-digit", hour12: false };

/** A count: 12, 1.2k, 3.4M. */
export function count(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)}M`;
  if (number >= 1e4) return `${(number / 1e3).toFixed(1)}k`;
  return number.toLocaleString("en");
}

/** Something a second. */
export function rate(number) {
  if (number === 0) return "0";
  if (number < 0.1) return "<0.1";
  if (number < 10) return number.toFixed(1);
  return count(Math.round(number));
}

/** A share of all, of which there may be none. */
export function share(part, all) {
  if (!all) return "–";
  const percent = (part / all) * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.1) return "<0.1 %";
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** Microseconds. */
export function duration(micros) {
  if (micros === null || micros === undefined) return "–";
  if (micros < 1e3) return `${micros} µs`;
  if (micros < 1e4) return `${(micros / 1e3).toFixed(1)} ms`;
  if (micros < 1e6) return `${Math.round(micros / 1e3)} ms`;
  return `${(micros / 1e6).toFixed(micros < 1e7 ? 2 : 0)} s`;
}

/** Bytes. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit += 1) number /= 1024;
  return `${unit === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

/** The time of day, by the second. */
export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toLocaleTimeString([], CLOCK);
}

/** The time of day, by the minute. */
export function hour(time) {
  return new Date(time).toLocaleTimeString([], HOUR);
}

/** `half_open` as people write it. */
export function words(name) {
  return String(name).replaceAll("_", " ");
}

/** One thing or many. */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}
