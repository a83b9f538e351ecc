// The map: which routes lead to which services, and those to which endpoints, with the traffic on the edges.

import { byId, h, s } from "./element.js";
import { many, rate, share } from "./format.js";
import { routeKey } from "./live.js";
import { sentence } from "./panel.js";
import { circuitState, endpointState, serviceState } from "./states.js";

/** Nodes of each column; what has less traffic is one node. */
const MOST = { routes: 12, services: 12, endpoints: 24 };
const ROW = 34;
const GAP = 10;
const TOP = 30;
const WIDTH = 1080;
const COLUMNS = [{ x: 0, width: 275 }, { x: 465, width: 195 }, { x: 830, width: 250 }];
/** More edges than these have no numbers of their own. */
const MOST_LABELS = 36;
const FAILING = 0.05;

function shortened(text, most) {
  return text.length > most ? `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(text.length - Math.floor(most / 2))}` : text;
}

function glyph(state, x, y) {
  switch (state) {
    case "warn":
      return s("path", { class: "warn", d: `M${x} ${y - 5}l5.5 10h-11z` });
    case "bad":
      return s("rect", { class: "bad", x: x - 5, y: y - 5, width: 10, height: 10 });
    case "off":
      return s("circle", { class: "off", cx: x, cy: y, r: 4 });
    default:
      return s("circle", { class: "good", cx: x, cy: y, r: 5 });
  }
}

/** The busiest of a column, and one node for all others. */
function bounded(nodes, most, noun) {
  if (nodes.length <= most) return nodes;
  const sorted = [...nodes].sort((a, b) => b.rate.requests - a.rate.requests);
  const [shown, others] = [sorted.slice(0, most - 1), sorted.slice(most - 1)];
  const sum = others.reduce((all, it) => ({ requests: all.requests + it.rate.requests, errors: all.errors + it.rate.errors }), { requests: 0, errors: 0 });
  const links = new Map();
  for (const other of others) for (const [to, weight] of other.links ?? []) links.set(to, (links.get(to) ?? 0) + weight * (other.rate.requests || 1e-9));
  const total = [...links.values()].reduce((all, it) => all + it, 0);
  for (const [to, weight] of links) links.set(to, weight / total);
  return [...shown, { key: `others ${noun}`, name: many(others.length, `more ${noun}`), state: null, rate: sum, links, members: others.map((it) => it.key) }];
}

/** Nodes and edges, from whatever is known. */
export function graph({ routes, services, traffic, live }) {
  const known = new Map();
  const liveRate = (key) => live.rate(key);
  for (const it of traffic?.services ?? []) {
    known.set(it.service, { service: it.service, endpoints: it.endpoints.map((endpoint) => ({ ...endpoint, state: "unknown" })), circuit: null });
  }
  for (const it of services ?? []) known.set(it.service, it);
  const routeNodes = new Map();
  const addRoute = (service, name, links) => {
    const key = routeKey(service, name);
    if (!routeNodes.has(key)) routeNodes.set(key, { key, name, of: service, state: null, rate: liveRate(key), links });
  };
  for (const route of routes ?? []) {
    // Routes that answer themselves lead nowhere; of others the services may not be known.
    const targets = route.services ?? [{ service: route.service }];
    const total = targets.reduce((sum, it) => sum + (it.weight ?? 1), 0) || 1;
    addRoute(route.service, route.name, new Map(targets.map((it) => [it.service, (it.weight ?? 1) / total])));
  }
  for (const it of traffic?.routes ?? []) {
    if (it.service !== "none" && !(routes && it.service !== "other")) addRoute(it.service, it.route, known.has(it.service) ? new Map([[it.service, 1]]) : new Map());
  }
  const serviceNodes = [];
  const endpointNodes = [];
  for (const service of known.values()) {
    const links = new Map();
    const sum = { requests: 0, errors: 0 };
    for (const endpoint of service.endpoints ?? []) {
      const key = routeKey(`endpoint ${service.service}`, endpoint.endpoint);
      const came = liveRate(key);
      sum.requests += came.requests;
      sum.errors += came.errors;
      links.set(key, came);
      const [state, word] = service.circuit === null ? [null, ""] : endpointState(endpoint);
      endpointNodes.push({ key, name: endpoint.endpoint, state, word, rate: came });
    }
    const isKnown = service.circuit !== null;
    serviceNodes.push({ key: service.service, name: service.service, state: isKnown ? serviceState(service) : null, word: isKnown ? circuitState(service)[1] : "", rate: sum, parts: links });
  }
  const columns = [
    bounded([...routeNodes.values()], MOST.routes, "routes"),
    bounded(serviceNodes, MOST.services, "services"),
    bounded(endpointNodes, MOST.endpoints, "endpoints"),
  ];
  return { columns, edges: edges(columns, serviceNodes) };
}

function edges([routes, services, endpoints], serviceNodes) {
  const place = (nodes) => {
    const map = new Map();
    for (const node of nodes) for (const key of [node.key, ...(node.members ?? [])]) map.set(key, node);
    return map;
  };
  const [toService, toEndpoint] = [place(services), place(endpoints)];
  const found = new Map();
  const add = (from, to, came) => {
    if (!from || !to) return;
    const key = `${from.key}\u0001${to.key}`;
    const edge = found.get(key) ?? { from, to, requests: 0, errors: 0 };
    edge.requests += came.requests;
    edge.errors += came.errors;
    found.set(key, edge);
  };
  for (const route of routes) {
    for (const [service, weight] of route.links ?? []) {
      add(route, toService.get(service), { requests: route.rate.requests * weight, errors: route.rate.errors * weight });
    }
  }
  for (const service of serviceNodes) {
    for (const [endpoint, came] of service.parts) add(toService.get(service.key), toEndpoint.get(endpoint), came);
  }
  const all = [...found.values()];
  for (const route of routes) {
    const own = all.filter((it) => it.from === route);
    for (const [index, edge] of own.entries()) Object.assign(edge, { atStart: true, place: index, places: own.length });
  }
  return all;
}

function place(columns) {
  const tallest = Math.max(1, ...columns.map((nodes) => nodes.length));
  const height = TOP + tallest * (ROW + GAP) - GAP + 4;
  for (const [column, nodes] of columns.entries()) {
    const room = (height - TOP) / Math.max(1, nodes.length);
    for (const [index, node] of nodes.entries()) {
      node.x = COLUMNS[column].x + 1;
      node.width = COLUMNS[column].width - 2;
      node.y = TOP + index * room + (room - ROW) / 2;
    }
  }
  return height;
}

/** Services near the routes that lead to them, endpoints near their services: fewer edges cross. */
function arrange(columns, all) {
  for (const column of [1, 2]) {
    const before = new Map(columns[column - 1].map((node, index) => [node, index]));
    const weight = (node) => {
      const places = all.filter((edge) => edge.to === node && before.has(edge.from)).map((edge) => before.get(edge.from));
      return places.length > 0 ? places.reduce((sum, it) => sum + it, 0) / places.length : Number.MAX_SAFE_INTEGER;
    };
    const weights = new Map(columns[column].map((node) => [node, weight(node)]));
    columns[column].sort((a, b) => weights.get(a) - weights.get(b) || a.name.localeCompare(b.name));
  }
}

function isFailing(came) {
  return came.requests > 0 && came.errors / came.requests >= FAILING;
}

function drawEdge(edge, isLabelled) {
  const [x1, y1] = [edge.from.x + edge.from.width, edge.from.y + ROW / 2];
  const [x2, y2] = [edge.to.x, edge.to.y + ROW / 2];
  const bend = (x2 - x1) * 0.6;
  const width = edge.requests > 0 ? 1.25 + Math.min(7, Math.log2(1 + edge.requests) * 0.7) : 1;
  const style = isFailing(edge) ? "edge failing" : edge.requests > 0 ? "edge" : "edge idle";
  const path = s("path", { class: style, "stroke-width": width.toFixed(2), d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
  if (!isLabelled || edge.requests === 0) return [path, null];
  const text = isFailing(edge) ? `${rate(edge.requests)}/s, ${share(edge.errors, edge.requests)} errors` : `${rate(edge.requests)}/s`;
  const rateStyle = isFailing(edge) ? "rate failing" : "rate";
  // At the end that fewer edges have: a route leads to one service, mostly, and an endpoint is that of one.
  const label = edge.atStart
    ? s("text", { class: rateStyle, x: x1 + 10, y: y1 - 6 - (edge.places - 1 - edge.place) * 13 }, text)
    : s("text", { class: rateStyle, x: x2 - 10, y: y2 - 6, "text-anchor": "end" }, text);
  return [path, label];
}

function drawNode(node, column) {
  const indent = node.state ? 26 : 12;
  const most = Math.floor((node.width - indent - 10) / 7.9);
  const parts = [s("rect", { class: "node", x: node.x, y: node.y, width: node.width, height: ROW, rx: 7 })];
  if (node.state) parts.push(glyph(node.state, node.x + 14, node.y + ROW / 2));
  parts.push(s("text", { class: "name", x: node.x + indent, y: node.y + ROW / 2 + 4 }, shortened(node.name.replace(/^https?:\/\//, ""), most)));
  const what = [["Route", "Service", "Endpoint"][column], node.name, node.of ? `of ${node.of}` : "", node.word ? `(${node.word})` : "", `${rate(node.rate.requests)}/s`];
  return s("g", {}, s("title", {}, what.filter(Boolean).join(" ")), ...parts);
}

/** Draws what is known, or says that there is nothing. */
export function drawMap(state) {
  const body = byId("map-body");
  const { columns, edges: all } = graph(state);
  if (columns.every((nodes) => nodes.length === 0)) {
    body.replaceChildren(sentence("No route has had a request yet, and no service is configured."));
    return;
  }
  arrange(columns, all);
  const height = place(columns);
  const drawn = all.map((edge) => drawEdge(edge, all.length <= MOST_LABELS));
  const titles = ["Routes", "Services", "Endpoints"].map((text, column) => s("text", { class: "column", x: COLUMNS[column].x + 2, y: 14 }, text));
  const unwell = [...columns[1], ...columns[2]].filter((it) => it.state && it.state !== "good");
  const health = unwell.length === 0 ? "all are well" : `not well: ${unwell.map((it) => `${it.name}, ${it.word || it.state}`).join("; ")}`;
  const label = `${many(columns[0].length, "route")}, ${many(columns[1].length, "service")} and ${many(columns[2].length, "endpoint")}; ${health}`;
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label },
    ...titles, ...drawn.map(([path]) => path), ...columns.flatMap((nodes, column) => nodes.map((node) => drawNode(node, column))), ...drawn.map(([, text]) => text).filter(Boolean));
  const scroll = body.querySelector(".map");
  if (scroll) scroll.replaceChildren(svg);
  else body.replaceChildren(h("div", { class: "map scroll", role: "region", "aria-label": "Map, scrolls sideways", tabindex: "0" }, svg));
}
