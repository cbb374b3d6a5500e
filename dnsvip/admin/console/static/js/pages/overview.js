// @ts-check
// Overview: what the site does now, all of it from the one live poll.
import { chart, rateOr, spark } from "../chart.js";
import { fill, h } from "../dom.js";
import { census, dispatchers, inWords, stateOf } from "../fleet.js";
import { ago, clock, count, whole } from "../format.js";
import { healthOf, healthTag } from "../health.js";
import { icon } from "../icons.js";
import { listen } from "../live.js";
import { card, empty, head, hidden, loading } from "../parts.js";
import { dropped, seriesOf, tolerated, total } from "../rates.js";
import { reconcile } from "../reconcile.js";
import { may } from "../rights.js";
import { link } from "../router.js";
import { table } from "../table.js";

/** @typedef {import("../live.js").State} State */
/** @typedef {import("../live.js").Rate} Rate */
/** @typedef {import("../dom.js").Child} Child */

const SERVERS = 12;
/** @type {Record<string, string>} */
const NAMES = { none: "anonymous" };
const NEWEST = 90;

/** @type {import("../pages.js").Show} */
export function show(view, { signal }) {
  const alarm = h("div", { role: "status" });
  const partly = h("div");
  const numbers = h("div.numbers.span-12");
  const status = h("div");
  const draw = wholeStatus();
  fill(view, head("Overview"), alarm, partly, h("div.grid", numbers), status);
  let seen = false;
  listen((state) => {
    if (!state.now) return;
    reconcile(alarm, alarmOf(state.now));
    reconcile(partly, partlyOf(state.now));
    reconcile(numbers, numbersOf(state));
    if (state.now.sees_status !== seen || !status.hasChildNodes())
      fill(
        status,
        state.now.sees_status
          ? draw.element
          : hidden("the status of the site: its traffic, the health of its servers, and its nodes"),
      );
    seen = state.now.sees_status;
    if (seen) draw.show(state);
  }, signal);
}

/** The charts and lists that a right to the status shows. */
function wholeStatus() {
  const tiers = chart("Answers by tier", { stacked: true, unit: "answers per second" });
  const rcodes = chart("Queries by rcode", { unit: "answers per second" });
  const flows = chart("New flows by tier", { stacked: true, unit: "flows per second" });
  const drops = chart("Dropped packets by reason", { unit: "packets per second" });
  const invalid = chart("Invalid addresses served by default tiers", { unit: "packets per second" });
  const half = (/** @type {string} */ title, /** @type {{ element: HTMLElement }} */ { element }) =>
    h("div.span-6", card(title, element));
  const flowsCard = half("New flows by tier", flows);
  const dropsCard = half("Dropped packets by reason", drops);
  const invalidCard = half("Invalid addresses served by default tiers", invalid);
  const servers = h("div", loading(3));
  const nodes = h("div", loading(3));
  const all = (/** @type {string} */ page, /** @type {string} */ text) => h("a", { href: link(page) }, text);
  const element = h(
    "div.grid",
    half("Answers by tier", tiers),
    half("Queries by rcode", rcodes),
    flowsCard,
    dropsCard,
    invalidCard,
    h(
      "div.span-7",
      card("Servers", servers, { flush: true, end: may("read", "pool") && all("servers", "All servers") }),
    ),
    h("div.span-5", card("Nodes", nodes, { flush: true, end: all("nodes", "All nodes") })),
  );
  const show = (/** @type {State} */ state) => {
    const { times } = state;
    const named = (/** @type {string} */ tier) => NAMES[tier] ?? tier;
    tiers.draw({ times, series: seriesOf(state, "dns.tiers", named) });
    rcodes.draw({ times, series: seriesOf(state, "dns.rcodes") });
    flows.draw({ times, series: seriesOf(state, "dispatcher.new_flows") });
    drops.draw({ times, series: seriesOf(state, "dispatcher.actions", dropped) });
    const served = seriesOf(state, "dispatcher.actions", tolerated);
    invalid.draw({ times, series: served });
    reconcile(servers, serversOf(state.now));
    reconcile(nodes, nodesOf(state.now));
    flowsCard.hidden = dropsCard.hidden = !dispatched(state);
    invalidCard.hidden = !served.length;
  };
  return { element, show };
}

/**
 * Whether this machine has, or had in the last minutes, a dispatcher whose figures are known.
 * @param {State} state
 */
function dispatched(state) {
  return Boolean(state.now.dispatcher) || Boolean(state.heard["dispatcher"]?.some(Boolean));
}

/** @param {any} now */
function alarmOf(now) {
  if (!now.troubles.length) return null;
  const critical = now.troubles.some((/** @type {any} */ each) => each.severity === "critical");
  return h(
    "ul.alarm",
    { class: critical ? "bad" : "warn", dataset: { key: "alarm" } },
    now.troubles.map((/** @type {import("../fleet.js").Trouble} */ each) =>
      h("li", { dataset: { key: each.text } }, icon("warn"), h("span", inWords(each))),
    ),
  );
}

/** @param {any} now */
function partlyOf(now) {
  if (!now.sees_status || !now.narrowed.length) return null;
  const kinds = now.narrowed.map((/** @type {string} */ each) => each.replace("_", " ")).join(", ");
  const text = `What this token may not see of these is left out here: ${kinds}.`;
  return h("p.hidden-note", { dataset: { hidden: "" } }, icon("lock", 15), h("span", text));
}

/** @param {State} state */
function numbersOf(state) {
  const { now } = state;
  const own = now.dispatcher && !now.dispatcher.error ? now.dispatcher : null;
  return [
    now.sees_status ? number("Queries", total(state, "dns.outcomes"), 1) : null,
    dispatched(state) ? number("Packets", total(state, "dispatcher.actions"), 2) : null,
    dispatched(state) ? number("Dropped", total(state, "dispatcher.actions", dropped), 5) : null,
    own?.flows ? plain("Flows", whole(own.flows.established + own.flows.new), `of ${whole(own.flows.bound)}`) : null,
    clientsOf(now),
    now.sees_status ? healthFigure(now) : null,
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
function healthFigure(now) {
  const checked = [...healthOf(now).values()].filter((server) => !server.out);
  if (!checked.length) return null;
  const good = checked.filter((server) => server.passing).length;
  const all = may("read", "pool") ? h("a", { href: link("servers") }, "See all") : "";
  return plain("Servers healthy", `${good} of ${checked.length}`, all, good < checked.length ? "warn" : "");
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
 */
function number(title, values, colour) {
  const newest = values.at(-1);
  return h(
    "div.figure",
    h("div.soft", title),
    h("div.figure-value", rateOr(newest), typeof newest === "number" ? h("span.faint", " /s") : null),
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

/** @param {any} now */
function serversOf(now) {
  const health = healthOf(now);
  const own = now.dispatcher?.error ? [] : (now.dispatcher?.servers ?? []);
  const packets = new Map(
    own.map((/** @type {any} */ server) => [`${server.pool}/${server.name}`, server.packets ?? 0]),
  );
  const keys = [...new Set([...packets.keys(), ...health.keys()])].sort(
    (a, b) => Number(health.get(a)?.passing ?? true) - Number(health.get(b)?.passing ?? true) || a.localeCompare(b),
  );
  if (!keys.length)
    return empty(
      now.dispatcher?.error ? "The dispatcher does not answer" : "No dispatcher reports",
      "The health of servers is known while a dispatcher runs.",
    );
  const to = (/** @type {string} */ key) =>
    may("read", "pool") ? h("a", { href: link("servers") }, key.replace("/", " / ")) : key.replace("/", " / ");
  /** @type {import("../table.js").Column<string>[]} */
  const columns = [
    { title: "Server", cell: to },
    { title: "Health", cell: (key) => healthTag(health.get(key)) },
    ...([...health.values()].some((server) => server.notes.length)
      ? [
          {
            title: "Reason",
            extra: true,
            cell: (/** @type {string} */ key) => h("span.faint", health.get(key)?.notes[0] ?? ""),
          },
        ]
      : []),
    { title: "Packets", number: true, cell: (key) => (packets.has(key) ? whole(packets.get(key)) : "") },
  ];
  const list = table("Servers as the dispatchers see them", columns, keys.slice(0, SERVERS), { key: (key) => key });
  return dispatchers(now).length || now.dispatcher
    ? list
    : [h("p.warn-text.note", "No dispatcher reports: this may be out of date."), list];
}

/** @param {any} now */
function nodesOf(now) {
  if (now.database) return empty("The database is unavailable", "Nodes are shown when it is back.");
  const rows = now.nodes.map((/** @type {any} */ node) =>
    h(
      "li.line",
      { dataset: { key: `${node.name} ${node.instance}` } },
      stateOf(node),
      h("strong", node.name),
      h("span.soft", node.roles.join(", ")),
      h(
        "span.faint.end",
        node.live
          ? node.behind
            ? `${count(node.behind, "generation")} behind`
            : ago(node.seen_at, now.at)
          : `gone since ${clock(node.seen_at)}`,
      ),
    ),
  );
  return rows.length ? h("ul.lines", rows) : empty("No node reports");
}
