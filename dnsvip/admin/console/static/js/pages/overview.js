// @ts-check
// Overview: what the site does now, all of it from the one live poll.
import { chart, spark } from "../chart.js";
import { fill, h } from "../dom.js";
import { ago, count, rate, whole } from "../format.js";
import { healthOf, healthTag } from "../health.js";
import { listen } from "../live.js";
import { card, empty, head, loading, tag } from "../parts.js";
import { reconcile } from "../reconcile.js";
import { link } from "../router.js";
import { table } from "../table.js";

/** @typedef {import("../live.js").State} State */
/** @typedef {import("../dom.js").Child} Child */

const TAKEN = new Set([
  "known",
  "reply",
  "icmp-error",
  "fragment",
  "plain",
  "class",
  "issued",
  "proven",
  "reselected",
  "held",
  "over-rate-passed",
  "not-ours",
]);
const MOST = 7;
const SERVERS = 12;
/** @type {Record<string, string>} */
const NAMES = { none: "anonymous" };

/** @type {import("../pages.js").Show} */
export function show(view, { signal }) {
  const tiers = chart("Answers by tier", { stacked: true, unit: "answers per second" });
  const rcodes = chart("Queries by rcode", { unit: "answers per second" });
  const flows = chart("New flows by tier", { stacked: true, unit: "flows per second" });
  const rejects = chart("Rejects by reason", { unit: "packets per second" });
  const numbers = h("div.numbers.span-12");
  const servers = h("div");
  const nodes = h("div");
  const flowsCard = h("div.span-6", card("New flows by tier", flows.element));
  const rejectsCard = h("div.span-6", card("Rejects by reason", rejects.element));
  fill(
    view,
    head("Overview"),
    h(
      "div.grid",
      numbers,
      h("div.span-6", card("Answers by tier", tiers.element)),
      h("div.span-6", card("Queries by rcode", rcodes.element)),
      flowsCard,
      rejectsCard,
      h("div.span-7", card("Servers", servers, { flush: true, end: h("a", { href: link("servers") }, "All servers") })),
      h("div.span-5", card("Nodes", nodes, { flush: true, end: h("a", { href: link("nodes") }, "All nodes") })),
    ),
  );
  fill(servers, loading(3));
  fill(nodes, loading(3));
  listen((state) => {
    if (!state.now) return;
    const of = (/** @type {string} */ group) => seriesOf(state, group);
    tiers.draw({ times: state.times, series: of("dns.tiers") });
    rcodes.draw({ times: state.times, series: of("dns.rcodes") });
    flows.draw({ times: state.times, series: of("dispatcher.new_flows") });
    rejects.draw({ times: state.times, series: of("dispatcher.counters").filter((each) => !TAKEN.has(each.name)) });
    reconcile(numbers, numbersOf(state));
    reconcile(servers, serversOf(state.now));
    reconcile(nodes, nodesOf(state.now));
    flowsCard.hidden = rejectsCard.hidden = !state.now.dispatcher;
  }, signal);
}

/**
 * @param {State} state
 * @param {string} group
 */
function seriesOf(state, group) {
  const own = Object.entries(state.rates).filter(
    ([name, values]) => name.startsWith(`${group}.`) && values.some(Boolean),
  );
  const sized = own.map(([name, values]) => ({
    name: NAMES[name.slice(group.length + 1)] ?? name.slice(group.length + 1),
    values,
    size: values.reduce((a, b) => a + b, 0),
  }));
  const biggest = new Set(
    sized
      .sort((a, b) => b.size - a.size)
      .slice(0, MOST)
      .map((each) => each.name),
  );
  const rest = sized.filter((each) => !biggest.has(each.name));
  const kept = sized.filter((each) => biggest.has(each.name)).sort((a, b) => a.name.localeCompare(b.name));
  if (rest.length)
    return [
      ...kept,
      {
        name: "others",
        values: state.times.map((_, place) => rest.reduce((sum, each) => sum + (each.values[place] ?? 0), 0)),
        colour: 8,
      },
    ];
  return kept;
}

/**
 * @param {State} state
 */
function numbersOf(state) {
  const { now } = state;
  /** @param {string} group @param {(name: string) => boolean} wanted */
  const total = (group, wanted = () => true) => {
    const columns = Object.entries(state.rates)
      .filter(([name]) => name.startsWith(`${group}.`) && wanted(name.slice(group.length + 1)))
      .map(([, values]) => values);
    return state.times.map((_, place) => columns.reduce((sum, values) => sum + (values[place] ?? 0), 0));
  };
  const dispatcher = now.dispatcher && !now.dispatcher.error ? now.dispatcher : null;
  const checked = [...healthOf(now).values()];
  const live = now.nodes.filter((/** @type {any} */ node) => node.live).length;
  return [
    number("Queries", total("dns.outcomes"), 1),
    dispatcher ? number("Packets", total("dispatcher.counters"), 2) : null,
    dispatcher
      ? number(
          "Rejects",
          total("dispatcher.counters", (name) => !TAKEN.has(name)),
          5,
        )
      : null,
    dispatcher?.flows
      ? plain(
          "Flows",
          whole(dispatcher.flows.established + dispatcher.flows.new),
          `of ${whole(dispatcher.flows.bound)}`,
        )
      : null,
    plain("Clients", whole(now.objects.clients ?? 0), h("a", { href: link("clients") }, "See all")),
    checked.length
      ? plain(
          "Servers healthy",
          `${checked.filter((server) => server.passing).length} of ${checked.length}`,
          h("a", { href: link("servers") }, "See all"),
        )
      : null,
    dispatcher
      ? null
      : plain(
          "Nodes live",
          `${live} of ${now.nodes.length}`,
          now.nodes.some((/** @type {any} */ node) => node.behind) ? "some are behind" : "all up to date",
        ),
  ];
}

/**
 * @param {string} title
 * @param {number[]} values
 * @param {number} colour
 */
function number(title, values, colour) {
  return h(
    "div.figure",
    h("div.soft", title),
    h("div.figure-value", rate(values.at(-1) ?? 0), h("span.faint", " /s")),
    spark(values.slice(-90), colour),
  );
}

/**
 * @param {string} title
 * @param {Child} value
 * @param {Child} note
 */
function plain(title, value, note) {
  return h("div.figure", h("div.soft", title), h("div.figure-value", value), h("div.faint.figure-note", note));
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
      "New flows, rejects and the health of servers are shown while a dispatcher runs.",
    );
  /** @type {import("../table.js").Column<string>[]} */
  const columns = [
    { title: "Server", cell: (key) => h("a", { href: link("servers") }, key.replace("/", " / ")) },
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
  return table("Servers as the dispatchers see them", columns, keys.slice(0, SERVERS), { key: (key) => key });
}

/** @param {any} now */
function nodesOf(now) {
  if (now.database) return empty("The database is unavailable", "Nodes are shown when it is back.");
  const rows = now.nodes.map((/** @type {any} */ node) =>
    h(
      "li.line",
      { dataset: { key: node.name } },
      tag(node.live ? (node.behind ? "behind" : "live") : "silent"),
      h("strong", node.name),
      h("span.soft", node.roles.join(", ")),
      h("span.faint.end", node.behind ? `${count(node.behind, "generation")} behind` : ago(node.seen_at, now.at)),
    ),
  );
  return rows.length ? h("ul.lines", rows) : empty("No node reports");
}
