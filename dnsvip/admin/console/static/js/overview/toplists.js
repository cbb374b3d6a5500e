// @ts-check
// What there is most of: names, resolvers, clients, and networks whose packets are refused, as bars with their rates.
import { colourOf } from "../draw/colours.js";
import { h } from "../draw/dom.js";
import { bits, rate } from "../draw/format.js";
import { card, hidden } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { link } from "../frame/router.js";

/** @typedef {import("../draw/dom.js").Child} Child */

/**
 * One of the lists: its title, what hides it, how its rows read. `by` is the number of a row that its bar shows.
 * @typedef {{ key: string, title: string, unit: string, by: string, what: string, colour: (row: any) => number,
 *   name: (row: any) => Child, value: (row: any) => string, none: string }} List
 */

/** @type {List[]} */
const LISTS = [
  {
    key: "names",
    title: "Top names",
    unit: "queries per second",
    by: "rate",
    what: "what is asked",
    colour: () => 1,
    name: (row) => h("span.mono", row.name),
    value: (row) => `${rate(row.rate)} /s`,
    none: "No queries in the last minutes",
  },
  {
    key: "resolvers",
    title: "Top resolvers",
    unit: "queries per second",
    by: "rate",
    what: "everybody's networks",
    colour: () => 7,
    name: (row) => h("span.mono", row.network),
    value: (row) => `${rate(row.rate)} /s`,
    none: "No queries in the last minutes",
  },
  {
    key: "clients",
    title: "Top clients",
    unit: "what they send",
    by: "bytes",
    what: "what clients use",
    colour: () => 2,
    name: (row) => (may("read", "client") ? h("a", { href: link(["clients", row.client]) }, row.client) : row.client),
    value: (row) => bits(8 * row.bytes),
    none: "No packets of known clients in the last minutes",
  },
  {
    key: "refused",
    title: "Top sources of dropped packets",
    unit: "packets per second",
    by: "rate",
    what: "everybody's networks",
    colour: (row) => colourOf(row.reason),
    name: (row) => [h("span.mono", row.network), h("span.reason", row.reason)],
    value: (row) => `${rate(row.rate)} /s`,
    none: "Nothing dropped in the last minutes",
  },
];

/**
 * The lists as cards; without a dispatcher those that tell of its packets are left out.
 * @param {any} now
 * @param {boolean} dispatched
 */
export function topLists(now, dispatched) {
  return LISTS.filter(({ key }) => dispatched || (key !== "clients" && key !== "refused")).map((list) =>
    h(
      "div.span-6",
      { dataset: { key: list.key } },
      card(list.title, contentOf(list, now.tops[list.key]), { end: h("span.unit", list.unit) }),
    ),
  );
}

/**
 * @param {List} list
 * @param {any[] | null | undefined} rows
 */
function contentOf(list, rows) {
  if (rows === null) return hidden(list.what);
  if (!rows?.length) return h("p.faint.most-none", list.none);
  const most = Math.max(...rows.map((row) => row[list.by]), 1e-9);
  return h(
    "ol.most",
    rows.map((row) =>
      h(
        "li",
        { class: `s${list.colour(row)}`, dataset: { key: keyOf(row, list.by) } },
        h("span.most-bar", { style: { width: `${(100 * row[list.by]) / most}%` }, "aria-hidden": "true" }),
        h("span.most-name", list.name(row)),
        h("span.most-value", list.value(row)),
      ),
    ),
  );
}

/**
 * @param {any} row
 * @param {string} by
 */
function keyOf(row, by) {
  return Object.entries(row)
    .filter(([name]) => name !== by)
    .map(([, value]) => value)
    .join(" ");
}
