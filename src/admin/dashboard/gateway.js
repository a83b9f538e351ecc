// What is asked of the gateway. The token that was typed in stays in this module's memory and nowhere else.

import { askForToken } from "./dialog.js";

let token = "";
const listeners = new Set();

/** Why there is no answer: `kind` is absent, locked, refused, failed or gone. */
export class Unanswered extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export function hasToken() {
  return token !== "";
}

/** Keeps a token until the page is closed; an empty one forgets it. */
export function keepToken(given) {
  token = given;
  for (const listener of listeners) listener();
}

/** Calls back whenever there is another token. */
export function onToken(listener) {
  listeners.add(listener);
}

/** The header fields of a request. */
export function fields() {
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** A path with a query, whose spaces are percent-encoded: a plus sign would be taken for itself. */
export function query(path, pairs) {
  return `${path}?${new URLSearchParams(pairs).toString().replaceAll("+", "%20")}`;
}

/** Sends a request as it is. */
export async function send(method, path, options = {}) {
  try {
    return await fetch(path, { method, headers: fields(), cache: "no-store", credentials: "omit", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unanswered("gone", "The gateway does not answer.");
  }
}

async function sentence(answer) {
  const text = (await answer.text()).trim();
  return text.slice(0, 2000) || `The gateway answered ${answer.status}.`;
}

/** What a path shows, as JSON. */
export async function read(path) {
  const answer = await send("GET", path, { signal: AbortSignal.timeout(20_000) }).catch((error) => {
    throw error instanceof Unanswered ? error : new Unanswered("gone", "The gateway takes too long to answer.");
  });
  if (answer.ok) return answer.json();
  const text = await sentence(answer);
  if (answer.status === 401 || answer.status === 403) throw new Unanswered("locked", text);
  if (answer.status === 404) throw new Unanswered("absent", text);
  throw new Unanswered(answer.status < 500 ? "refused" : "failed", text);
}

/**
 * Changes something, with the token, which is asked for if there is none or a wrong one. Returns the answer as
 * JSON or text, or `null` if whoever was asked cancelled.
 */
export async function change(method, path, { title, text, confirm, body } = {}) {
  let wrong = "";
  let isConfirmed = !title;
  for (;;) {
    if (!isConfirmed || !hasToken()) {
      const given = await askForToken({ title: title ?? "Admin token", text, confirm, wrong, needsToken: !hasToken() });
      if (given === null) return null;
      if (given) keepToken(given);
      isConfirmed = true;
    }
    const answer = await send(method, path, { body });
    if (answer.status === 401) {
      keepToken("");
      wrong = "This is not the token that admin.token asks for.";
      continue;
    }
    const kind = answer.headers.get("content-type") ?? "";
    if (answer.ok) return kind.includes("json") ? answer.json() : answer.text();
    if (answer.status === 422 && kind.includes("json")) return answer.json();
    throw new Unanswered("refused", await sentence(answer));
  }
}
