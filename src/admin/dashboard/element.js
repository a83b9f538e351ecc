// Elements of the page. What comes from the gateway, which clients may have made up, only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of HTML; attributes that are functions listen to the event of that name. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** The element of an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets a text if it is another one, so that selections stay. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or takes away an attribute. */
export function mark(element, name, value) {
  if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** A state as a shape, a colour and a word. */
export function badge(state, word) {
  return h("span", { class: "badge", "data-state": state }, h("span", { class: "mark", "aria-hidden": "true" }), h("span", {}, word));
}

/** Changes a badge. */
export function restate(element, state, word) {
  mark(element, "data-state", state);
  say(element.lastChild, word);
}

const kept = new WeakMap();

/**
 * Has `parent` show one element for each item, in their order. Elements are made once and then updated, so that
 * what has the focus keeps it. `create` returns { element, update }.
 */
export function show(parent, items, keyOf, create) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const part = before.get(key) ?? create(item);
    now.set(key, part);
    part.update(item);
    if (part.element === place) place = place.nextSibling;
    else parent.insertBefore(part.element, place);
  }
  for (const [key, part] of before) {
    if (!now.has(key)) part.element.remove();
  }
  kept.set(parent, now);
}
