// What came in the last seconds by route and by endpoint: the traffic on the edges of the map.

/** Seconds that are averaged. */
const SECONDS = 10;

export function routeKey(service, route) {
  return `${service}\u0000${route}`;
}

/** Counts of the last seconds by key. */
export class Live {
  constructor() {
    this.seconds = [];
  }

  /** Another second: pairs of a key and what came. */
  push(entries) {
    this.seconds.push(new Map(entries));
    if (this.seconds.length > SECONDS) this.seconds.shift();
  }

  /** Per second: all, and the errors among them. */
  rate(key) {
    const sum = { requests: 0, errors: 0 };
    if (this.seconds.length === 0) return sum;
    for (const second of this.seconds) {
      const came = second.get(key);
      if (came) {
        sum.requests += came.requests;
        sum.errors += came.errors;
      }
    }
    return { requests: sum.requests / this.seconds.length, errors: sum.errors / this.seconds.length };
  }

  /** All keys of the last seconds. */
  keys() {
    return new Set(this.seconds.flatMap((second) => [...second.keys()]));
  }
}
