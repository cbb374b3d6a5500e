// @ts-check
// What stands above the list of servers: its filters, and how many servers are in each condition.
import { h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { whole } from "../draw/format.js";
import { CONDITIONS, counted } from "./list.js";

/** @typedef {import("./list.js").Wanted} Wanted */
/** @typedef {import("./list.js").Row} Row */
/** @typedef {(change: Partial<Wanted>) => void} Want */

const WAIT_MS = 200;
/** @type {form.Option[]} */
const GROUPS = [
  ["pool", "By pool"],
  ["condition", "By condition"],
];
let timer = 0;

/**
 * @param {Wanted} wanted
 * @param {string[]} pools
 * @param {Want} want
 */
export function filterBar(wanted, pools, want) {
  const value = (/** @type {Event} */ event) => /** @type {form.Control} */ (event.currentTarget).value.trim();
  const later = (/** @type {Event} */ event) => {
    const q = value(event);
    clearTimeout(timer);
    timer = setTimeout(() => want({ q }), WAIT_MS);
  };
  const find = form.text(wanted.q, {
    type: "search",
    placeholder: "Server, pool or address",
    "aria-label": "Find servers",
    oninput: later,
  });
  const pool = form.choice(wanted.pool, [["", "Any pool"], ...pools], {
    "aria-label": "Pool",
    onchange: (event) => want({ pool: value(event) }),
  });
  const by = form.choice(wanted.by, GROUPS, {
    "aria-label": "Groups",
    onchange: (event) => want({ by: value(event) }),
  });
  return h("div.filters", { role: "search", "aria-label": "Servers" }, find, pool, by);
}

/**
 * A button for each condition that servers are in: how many, and by a click only these.
 * @param {Row[]} rows
 * @param {(row: Row) => string} condition
 * @param {Wanted} wanted
 * @param {Want} want
 */
export function chipsOf(rows, condition, wanted, want) {
  const counts = counted(rows, condition);
  const chip = (/** @type {string} */ name, /** @type {string} */ text, /** @type {number} */ number, kind = "") =>
    h(
      "button.chip",
      {
        type: "button",
        "aria-pressed": String(wanted.condition === name),
        onclick: () => want({ condition: wanted.condition === name ? "" : name }),
        dataset: { key: name || "all" },
      },
      kind ? h("span.dot", { class: kind, "aria-hidden": "true" }) : null,
      h("b", whole(number)),
      ` ${text}`,
    );
  const some = CONDITIONS.filter(([name]) => counts.get(name) || wanted.condition === name);
  return [
    chip("", rows.length === 1 ? "server" : "servers", rows.length),
    some.map(([name, kind]) => chip(name, name, counts.get(name) ?? 0, kind)),
  ];
}
