// The page: what is loaded when, and what is told to whom.

import { Cache } from "./cache.js";
import { Configuration } from "./configuration.js";
import { isAsking, prepareDialog, askForToken } from "./dialog.js";
import { byId, mark, say } from "./element.js";
import { Errors } from "./errors.js";
import { Events } from "./events.js";
import { prepareExplain } from "./explain.js";
import { clock } from "./format.js";
import { change, hasToken, keepToken, onToken, read } from "./gateway.js";
import { Limits } from "./limits.js";
import { Live, routeKey } from "./live.js";
import { drawMap } from "./map.js";
import { Refusals } from "./refusals.js";
import { Routes } from "./routes.js";
import { Services } from "./services.js";
import { Traffic } from "./traffic.js";

const live = new Live();
const endpointKey = (service, endpoint) => routeKey(`endpoint ${service}`, endpoint);
const traffic = new Traffic();
const routes = new Routes();
const errors = new Errors();
const refusals = new Refusals();
const configuration = new Configuration();
const services = new Services({ perform, live, endpointKey });
const limits = new Limits({ perform });
const cache = new Cache({ perform });
let report = null;
let generation = null;
let ticks = 0;
let saidUntil = 0;

/** Says how something went, for a while. */
function tell(text) {
  say(byId("said"), text);
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => say(byId("said"), ""), 6_000);
}

/** Does what a button says, once it is confirmed, and shows what came of it. */
async function perform(method, path, options) {
  try {
    const answer = await change(method, path, options);
    if (answer === null) return;
    tell(options.said?.(answer) ?? `Done: ${options.done}.`);
    await Promise.all([services.load(), limits.load(), cache.load(), loadStatus()]);
  } catch (error) {
    tell(error.message);
  }
}

async function loadStatus() {
  const status = await read("/status");
  const phase = status.phase === "serving" ? "" : `${status.phase} · `;
  say(byId("about"), `${phase}v${status.version} · generation ${status.generation} · pid ${status.pid}`);
  byId("about").title = `${status.config}, in force since ${status.loaded}; started ${status.started}`;
  if (status.generation !== generation) {
    generation = status.generation;
    routes.load(true);
    configuration.load(true);
  }
}

async function loadTraffic(isWhole) {
  try {
    report = await traffic.load(isWhole);
  } catch (error) {
    if (!error.kind) console.error(error);
    refusals.fail(error);
    if (error.kind === "locked") unlock(error.message);
    return;
  }
  traffic.latency(report);
  routes.learn(report);
  services.learn(report);
  refusals.learn(report);
  redrawMap();
}

function redrawMap() {
  drawMap({ routes: routes.all, services: services.all, traffic: report, live });
}

/** Loads all of it. */
function loadAll() {
  generation = null;
  for (const part of [services, errors, limits, cache]) part.load(true).then(redrawMap);
  loadStatus().catch(() => {});
  loadTraffic(true);
}

/** Asks for the token where nothing is shown without it. */
async function unlock(wrong) {
  if (isAsking()) return;
  const given = await askForToken({ title: "Admin token", text: "Nothing is shown here without the token of admin.token.", confirm: "Show", wrong: hasToken() ? wrong : "", needsToken: true });
  if (given) keepToken(given);
}

function connection(state, text) {
  mark(byId("connection"), "data-state", state);
  say(byId("connection-text"), text);
}

let lostAt = null;
const events = new Events({
  open() {
    if (lostAt !== null) loadAll();
    lostAt = null;
    byId("banner").hidden = true;
    document.documentElement.classList.remove("stale");
    connection("good", "Live");
  },
  lost(reason, pause) {
    lostAt ??= new Date();
    connection("bad", "Disconnected");
    document.documentElement.classList.add("stale");
    say(byId("banner"), `Not connected since ${clock(lostAt)}: ${reason} Tries again in ${Math.round(pause / 1000)} s.`);
    byId("banner").hidden = false;
  },
  event(name, data) {
    if (name === "traffic") tick(data);
    else if (name === "failure") errors.tell(data);
  },
});

function tick(sample) {
  ticks += 1;
  live.push([
    ...sample.routes.map((it) => [routeKey(it.service, it.route), it]),
    ...sample.endpoints.map((it) => [endpointKey(it.service, it.endpoint), it]),
  ]);
  if (document.hidden) return;
  traffic.tick(sample);
  redrawMap();
  // Spread out, so that no second asks for all.
  if (ticks % 3 === 0) services.load();
  if (ticks % 5 === 1) loadStatus().catch(() => {});
  if (ticks % 5 === 2) errors.load();
  if (ticks % 10 === 4) loadTraffic(false);
  if (ticks % 10 === 8) Promise.all([limits.load(), cache.load()]);
}

function showToken() {
  say(byId("token-state"), hasToken() ? "given, in memory only" : "no token given");
  mark(byId("token"), "aria-pressed", hasToken());
  say(byId("token"), hasToken() ? "Forget token" : "Token");
}

function prepareBar() {
  byId("token").addEventListener("click", async () => {
    if (hasToken()) {
      keepToken("");
      tell("The token is forgotten.");
      return;
    }
    const given = await askForToken({ title: "Admin token", text: "It is sent with every request of this page.", confirm: "Keep", needsToken: true });
    if (given) keepToken(given);
  });
  byId("reload").addEventListener("click", () => perform("POST", "/reload", {
    title: "Reload the configuration?", text: "The file is read and put in force if it is good. What serves now goes on otherwise.", confirm: "Reload", done: "reloaded",
    said: (answer) => (answer.outcome === "refused" ? `Refused, the one before is in force. ${answer.findings.map((it) => `${it.place}: ${it.message}`).join(" · ")}` : `In force: generation ${answer.generation}.`),
  }));
  const links = [...document.querySelectorAll(".bar nav a")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((it) => it.isIntersecting)) {
      for (const link of links) mark(link, "aria-current", link.hash === `#${entry.target.id}` ? "true" : null);
    }
  }, { rootMargin: "-25% 0px -70% 0px" });
  for (const link of links) seen.observe(byId(link.hash.slice(1)));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && lostAt === null) loadAll();
  });
  window.addEventListener("online", () => events.retry());
  onToken(() => {
    showToken();
    if (lostAt === null) loadAll();
    else events.retry();
  });
}

prepareDialog();
prepareExplain();
prepareBar();
loadAll();
events.follow();
