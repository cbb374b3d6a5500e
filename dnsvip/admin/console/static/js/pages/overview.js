// @ts-check
// Overview: what the site does now, all of it from the one live poll.
import { alarmOf } from "../overview/alarms.js";
import { chart } from "../draw/chart.js";
import { fill, h } from "../draw/dom.js";
import { dispatched, numbersOf } from "../overview/figures.js";
import { dispatchers, stateOf } from "../api/fleet.js";
import { ago, clock, count, whole } from "../draw/format.js";
import { healthOf, healthTag } from "../servers/health.js";
import { icon } from "../draw/icons.js";
import { choice, choose, listen } from "../api/live.js";
import { card, empty, head, hidden, loading, tag } from "../draw/parts.js";
import { dropped, seriesOf, tolerated } from "../api/rates.js";
import { reconcile } from "../draw/reconcile.js";
import { may } from "../api/rights.js";
import { link, note } from "../frame/router.js";
import { table } from "../lists/table.js";
import { topLists } from "../overview/toplists.js";

/** @typedef {import("../api/live.js").State} State */

const SERVERS = 12;
/** @type {Record<string, string>} */
const NAMES = { none: "anonymous" };

/** The spans as buttons. @type {Record<string, string>} */
const TITLES = { "10min": "10 min", "1h": "1 h", "24h": "24 h" };

/** @type {import("../frame/pages.js").Show} */
export function show(view, { signal, query }) {
  const scope = h("div.scope");
  const alarm = h("div.maybe", { role: "status" });
  const partly = h("div.maybe");
  const numbers = h("div.numbers.span-12");
  const status = h("div");
  const draw = wholeStatus();
  choose(query);
  signal.addEventListener("abort", () => choose());
  fill(view, head("Overview", { actions: [scope] }), alarm, partly, h("div.grid", numbers), status);
  let seen = false;
  listen((state) => {
    if (!state.now) return;
    reconcile(scope, scopeOf(state.now));
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

/**
 * What the figures are of: all nodes or one of them, and over which time.
 * @param {any} now
 */
function scopeOf(now) {
  if (!now.sees_status) return null;
  const { node, span } = choice();
  const turn = (/** @type {{ node?: string, span?: string }} */ next) => {
    const wanted = { node, span, ...next };
    note("overview", wanted.span === "10min" ? { node: wanted.node } : wanted);
    choose(wanted);
  };
  const names = now.scopes.includes(node) || !node ? now.scopes : [...now.scopes, node];
  const own = (/** @type {string} */ name) => (name === now.node ? `${name} (this one)` : name);
  return [
    h(
      "select",
      {
        "aria-label": "Figures of",
        "data-key": "scope",
        onchange: (/** @type {any} */ event) => turn({ node: event.target.value }),
      },
      h("option", { value: "", selected: !node }, `All nodes${now.scopes.length ? ` (${now.scopes.length})` : ""}`),
      names.map((/** @type {string} */ name) => h("option", { value: name, selected: name === node }, own(name))),
    ),
    h(
      "div.spans",
      { role: "group", "aria-label": "Time", "data-key": "spans" },
      Object.entries(TITLES).map(([name, title]) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(name === span),
            "data-key": name,
            onclick: () => turn({ span: name }),
          },
          title,
        ),
      ),
    ),
  ];
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
  const tops = h("div.grid.span-12");
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
    tops,
    h(
      "div.span-7",
      card("Servers", servers, { flush: true, end: may("read", "pool") && all("servers", "All servers") }),
    ),
    h("div.span-5", card("Nodes", nodes, { flush: true, end: all("nodes", "All nodes") })),
  );
  const show = (/** @type {State} */ state) => {
    const { times } = state;
    const span = choice().seconds;
    const named = (/** @type {string} */ tier) => NAMES[tier] ?? tier;
    tiers.draw({ times, span, series: seriesOf(state, "dns.tiers", named) });
    rcodes.draw({ times, span, series: seriesOf(state, "dns.rcodes") });
    flows.draw({ times, span, series: seriesOf(state, "dispatcher.new_flows") });
    drops.draw({ times, span, series: seriesOf(state, "dispatcher.actions", dropped) });
    const served = seriesOf(state, "dispatcher.actions", tolerated);
    invalid.draw({ times, span, series: served });
    reconcile(tops, topLists(state.now, dispatched(state)));
    reconcile(servers, serversOf(state.now));
    reconcile(nodes, nodesOf(state.now));
    flowsCard.hidden = dropsCard.hidden = !dispatched(state);
    invalidCard.hidden = !served.length;
  };
  return { element, show };
}

/** @param {any} now */
function partlyOf(now) {
  if (!now.sees_status || !now.narrowed.length) return null;
  const kinds = now.narrowed.map((/** @type {string} */ each) => each.replace("_", " ")).join(", ");
  const text = `What this token may not see of these is left out here: ${kinds}.`;
  return h("p.hidden-note", { dataset: { hidden: "" } }, icon("lock", 15), h("span", text));
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
  /** @type {import("../lists/table.js").Column<string>[]} */
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
  if (!now.nodes.length && now.database)
    return empty("The database is unavailable", "Nodes are shown when it is back.");
  const late = new Set(now.troubles.map((/** @type {any} */ each) => (each.kind === "late" ? each.node : "")));
  const rows = now.nodes.map((/** @type {any} */ node) =>
    h(
      "li.line",
      { dataset: { key: `${node.name} ${node.instance}` } },
      late.has(node.name) && node.live ? tag("late", "warn") : stateOf(node),
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
  if (!rows.length) return empty("No node reports");
  const of = now.database ? h("p.warn-text.as-of", `As of ${clock(now.nodes_at)}, before the database went.`) : null;
  return [of, h("ul.lines", rows)];
}
