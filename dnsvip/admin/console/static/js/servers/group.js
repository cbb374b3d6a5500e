// @ts-check
// A group of servers as a card: a pool with its settings and tools, or all servers in one condition.
import { summary } from "../lists/cells.js";
import { h } from "../draw/dom.js";
import { bitrate, count, rate, whole } from "../draw/format.js";
import { editInDialog } from "../kinds/kindpage.js";
import { button, card, empty, label } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { fieldsOf, named, resolved } from "../api/schema.js";
import { addServer } from "./form.js";
import { columnsOf } from "./rows.js";
import { table } from "../lists/table.js";

/** @typedef {import("./list.js").Pool} Pool */
/** @typedef {import("./list.js").Row} Row */
/** @typedef {import("./list.js").Group} Group */
/** @typedef {ReturnType<typeof import("./numbers.js").serverNumbers>} Numbers */

/**
 * What the cards share: what is seen, selected and shown whole, and what happens on a change of these.
 * @typedef {object} Kit
 * @property {import("../api/schema.js").Document} document
 * @property {import("./rows.js").Seen} seen
 * @property {import("./list.js").Wanted} wanted
 * @property {Set<string>} chosen
 * @property {Set<string>} whole
 * @property {() => void} paint
 * @property {() => void} redraw
 * @property {(change: Partial<import("./list.js").Wanted>) => void} want
 * @property {() => Promise<void>} again
 */

export const FORM = { omit: ["servers"] };
const MOST = 50;
/** How many more than that are not worth a click. */
const SLACK = 10;

/**
 * @param {Group} group
 * @param {Kit} kit
 */
export function groupCard(group, kit) {
  const { pool, rows, name } = group;
  const body = rows.length
    ? list(group, kit)
    : empty(pool?.servers.length ? "Nothing matches" : "No servers in this pool");
  return card(name, [h("div.row.pool-about", about(group, kit)), body], {
    flush: true,
    kind: "servers",
    end: tools(group, kit),
    id: pool ? `pool-${name}` : `condition-${name.replace(" ", "-")}`,
  });
}

/**
 * @param {Group} group
 * @param {Kit} kit
 */
function list({ pool, rows, name }, kit) {
  const { wanted, want } = kit;
  const columns = columnsOf(kit.seen, {
    writable: (each) => may("write", "pool", each),
    any: rows.some((row) => may("write", "pool", row.pool.name)),
    pools: pool === null,
    chosen: kit.chosen,
    choose: kit.paint,
    again: kit.again,
  });
  const turn = (/** @type {string} */ by) => {
    const sort = by.replace("-", "");
    want({ sort: wanted.sort === sort ? "" : sort });
  };
  const sorting = { by: () => (wanted.sort === "name" ? "name" : `-${wanted.sort}`), turn };
  const every = kit.whole.has(name) || rows.length <= MOST + SLACK;
  const showAll = () => {
    kit.whole.add(name);
    kit.redraw();
  };
  const caption = pool ? `Servers of ${name}` : `Servers ${name}`;
  return [
    table(caption, columns, every ? rows : rows.slice(0, MOST), { sorting, key: (row) => row.key }),
    every ? null : h("div.list-foot", button(`Show all ${whole(rows.length)}`, showAll, { small: true })),
  ];
}

/**
 * The settings of a pool in a few words, the sums of what its servers get.
 * @param {Group} group
 * @param {Kit} kit
 */
function about({ name, pool, rows }, { document }) {
  const sums = h("span.soft.push", { dataset: { sums: name }, title: "From the dispatcher of this machine" });
  if (!pool) return [h("span.soft", count(rows.length, "server")), sums];
  const fields = Object.fromEntries(fieldsOf(document, named(document, "Pool")));
  const check = pool["check"] && summary(document, resolved(document, fields["check"] ?? {}), pool["check"]);
  return [
    label(`${pool["forward"]} forwarding`),
    label(`sticky by ${pool["stickiness"]}`),
    pool["fallback"] ? label(`falls back to ${pool["fallback"]}`) : null,
    check ? label(`checked: ${check}`) : label("not checked", "warn"),
    sums,
  ];
}

/**
 * What servers get in all: "12 flows/s, 340 packets/s, 2.1 Mbit/s"; empty while it is not known.
 * @param {Row[]} rows
 * @param {Numbers} numbers
 */
export function sumsOf(rows, numbers) {
  if (!rows.some((row) => numbers.of(row.key).packets !== null)) return "";
  const sum = (/** @type {"bytes" | "flows" | "packets"} */ sort) =>
    rows.reduce((all, row) => all + (numbers.of(row.key)[sort] ?? 0), 0);
  return [
    numbers.has("flows") ? `${rate(sum("flows"))} flows/s` : "",
    `${rate(sum("packets"))} packets/s`,
    numbers.has("bytes") ? bitrate(sum("bytes")) : "",
  ]
    .filter(Boolean)
    .join(", ");
}

/**
 * @param {Group} group
 * @param {Kit} kit
 */
function tools({ name, pool, rows }, { chosen, paint, again }) {
  const writable = rows.filter((row) => may("write", "pool", row.pool.name));
  const select = () => {
    const every = writable.every((row) => chosen.has(row.key));
    writable.forEach((row) => (every ? chosen.delete(row.key) : chosen.add(row.key)));
    paint();
  };
  const pick =
    writable.length > 1
      ? button("Select all", select, { small: true, kind: "quiet", label: `Select all of ${name}` })
      : null;
  return h("div.row", pick, pool && may("write", "pool", name) ? poolTools(pool, again) : null);
}

/**
 * @param {Pool} pool
 * @param {() => Promise<void>} again
 */
function poolTools({ name, servers }, again) {
  const removal = servers.length ? `Its ${servers.length} servers are removed with it. ` : "";
  const how = { form: FORM, after: again, removal: `${removal}This is refused while a tier or a pool refers to it.` };
  return [
    button("", () => editInDialog("pool", name, how), {
      name: "edit",
      small: true,
      kind: "quiet",
      label: `Edit pool ${name}`,
    }),
    button("Add server", () => addServer(name, again), { name: "plus", small: true }),
  ];
}
