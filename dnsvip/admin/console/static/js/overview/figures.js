// @ts-check
// The figures of the overview: what happens now, how much there is, and how many of it are well.
import { rateOr, spark } from "../draw/chart.js";
import { h } from "../draw/dom.js";
import { census } from "../api/fleet.js";
import { bits, whole } from "../draw/format.js";
import { dropped, total } from "../api/rates.js";
import { may } from "../api/rights.js";
import { link } from "../frame/router.js";
import { allServers, serverStates } from "../servers/states.js";

/** @typedef {import("../api/live.js").State} State */
/** @typedef {import("../api/live.js").Rate} Rate */
/** @typedef {import("../draw/dom.js").Child} Child */

const NEWEST = 90;

/** @param {State} state */
export function numbersOf(state) {
  const { now } = state;
  const packets = dispatched(state);
  const bytes = packets ? total(state, "dispatcher.sent", (name) => (name === "bytes" ? name : null)) : [];
  return [
    now.sees_status ? number("Queries", total(state, "dns.outcomes"), 1) : null,
    packets ? number("Packets", total(state, "dispatcher.actions"), 2) : null,
    packets ? number("Dropped", total(state, "dispatcher.actions", dropped), 5) : null,
    packets ? number("Throughput", bytes, 7, (rate) => inBits(8 * rate)) : null,
    now.flows ? plain("Flows", whole(now.flows.established + now.flows.new), `of ${whole(now.flows.bound)}`) : null,
    clientsOf(now),
    now.sees_status && allServers(now.servers) ? serversFigure(now) : null,
    now.sees_status && !now.database ? nodesFigure(now) : null,
  ];
}

/** @param {any} now */
function clientsOf(now) {
  const { clients } = now.objects;
  if (clients === undefined) return plain("Clients", h("span.faint", "hidden"), "this token may not see clients");
  const some = now.narrowed.includes("clients");
  const all = may("read", "client")
    ? h("a", { href: link("clients") }, some ? "those that this token may see" : "See all")
    : "";
  return plain("Clients", whole(clients), all);
}

/** @param {any} now */
function serversFigure(now) {
  const all = whole(allServers(now.servers));
  return h(
    "div.figure.wide",
    { class: now.servers.failing ? "warn" : "", "data-key": "Servers" },
    h(
      "div.states-head",
      h("span.soft", "Servers"),
      h("b", all),
      may("read", "pool") ? h("a", { href: link("servers") }, "See all") : "",
    ),
    serverStates(now.servers),
  );
}

/** @param {any} now */
function nodesFigure(now) {
  const { live, all, note, good } = census(now);
  const critical = now.troubles.some((/** @type {any} */ each) => each.severity === "critical");
  return plain("Nodes live", `${live} of ${all}`, note, good ? "" : critical ? "bad" : "warn");
}

/**
 * @param {string} title
 * @param {Rate[]} values
 * @param {number} colour
 * @param {(rate: number) => Child} [worded]  with its unit; else it is a number per second
 */
function number(title, values, colour, worded) {
  const newest = values.at(-1);
  const known = typeof newest === "number";
  return h(
    "div.figure",
    { "data-key": title },
    h("div.soft", title),
    h("div.figure-value", known && worded ? worded(newest) : [rateOr(newest), known ? h("span.faint", " /s") : null]),
    spark(values.slice(-NEWEST), colour),
  );
}

/**
 * @param {string} title
 * @param {Child} value
 * @param {Child} note
 */
function plain(title, value, note, kind = "") {
  return h(
    "div.figure",
    { class: kind, "data-key": title },
    h("div.soft", title),
    h("div.figure-value", value),
    h("div.faint.figure-note", note),
  );
}

/**
 * Whether there is, or was in this time, a dispatcher whose figures are known.
 * @param {State} state
 */
export function dispatched(state) {
  return Boolean(state.now.flows) || Boolean(state.heard["dispatcher"]?.some(Boolean));
}

/**
 * A rate with its unit small beside it.
 * @param {number} rate
 */
function inBits(rate) {
  const [number, unit] = bits(rate).split(" ");
  return [number, h("span.faint", ` ${unit}`)];
}
