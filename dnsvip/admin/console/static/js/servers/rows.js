// @ts-check
// The rows of servers: what is set, what the dispatchers see, what is sent to each. Figures that change are written into
// the places for them; nothing else is drawn at a poll.
import { draw, h, settled } from "../draw/dom.js";
import { dispatchers } from "../api/fleet.js";
import { number } from "../forms/form.js";
import { bitrate, rate, whole } from "../draw/format.js";
import { healthTag } from "./health.js";
import { failed } from "../draw/notices.js";
import { button, tag } from "../draw/parts.js";
import { reconcile } from "../draw/reconcile.js";
import { change, editServer } from "./form.js";

/** @typedef {import("./list.js").Row} Row */
/** @typedef {import("./list.js").Server} Server */
/** @typedef {import("./health.js").Health} Health */

/**
 * What rows are drawn from. `health` is by POOL/NAME; `known`: a dispatcher reports.
 * @typedef {object} Seen
 * @property {any} now
 * @property {Map<string, Health>} health
 * @property {ReturnType<typeof import("./numbers.js").serverNumbers>} numbers
 */

/** A state as it reads. @type {Record<string, [string, string]>} */
const STATE = {
  up: ["up", "good"],
  drain: ["draining", "warn"],
  maint: ["maintenance", "warn"],
  down: ["down", "bad"],
};

/** @type {[sort: "packets" | "bytes" | "flows", title: string, shown: (value: number) => string][]} */
const RATES = [
  ["flows", "Flows/s", rate],
  ["packets", "Packets/s", rate],
  ["bytes", "Traffic", bitrate],
];

/**
 * @param {Seen} seen
 * @param {{ writable: (pool: string) => boolean, any: boolean, pools: boolean, chosen: Set<string>, choose: () => void, again: () => Promise<void> }} how
 *   `any`: some of the rows are writable; `pools`: with a column for the pool
 * @returns {import("../lists/table.js").Column<Row>[]}
 */
export function columnsOf(seen, { writable, any, pools, chosen, choose, again }) {
  const may = (/** @type {Row} */ row) => writable(row.pool.name);
  const select = {
    title: "Select",
    quiet: true,
    cell: (/** @type {Row} */ row) => may(row) && chooser(row, chosen, choose),
  };
  return [
    ...(any ? [select] : []),
    { title: "Server", sort: "name", cell: (row) => h("strong", row.server.name) },
    ...(pools ? [{ title: "Pool", cell: (/** @type {Row} */ row) => row.pool.name }] : []),
    { title: "Address", extra: true, cell: (row) => h("span.mono", row.server.address) },
    {
      title: "State",
      cell: ({ server }) => tag(.../** @type {[string, string]} */ (STATE[server.state] ?? [server.state, ""])),
    },
    { title: "Health", cell: ({ key }) => h("span", { dataset: { health: key } }, healthNow(seen, key)) },
    {
      title: "Weight",
      number: true,
      cell: (row) => [
        may(row) ? weight(row, again) : whole(row.server.weight),
        h(
          "div.faint.note",
          { dataset: row.server.state === "up" ? { weight: row.key, set: String(row.server.weight) } : {} },
          row.server.state === "up" ? weightNow(seen, row.key, row.server.weight) : "",
        ),
      ],
    },
    ...RATES.filter(([sort]) => seen.numbers.has(sort)).map(([sort, title, shown]) => ({
      title,
      sort,
      number: true,
      cell: (/** @type {Row} */ { key }) =>
        h("span", { dataset: { rate: sort, of: key } }, rateNow(seen.numbers.of(key)[sort], shown)),
    })),
    ...(any
      ? [{ title: "", cell: (/** @type {Row} */ row) => may(row) && h("div.row.nowrap", actions(row, again)) }]
      : []),
  ];
}

/**
 * @param {Row} row
 * @param {Set<string>} chosen
 * @param {() => void} choose
 */
function chooser({ key, server }, chosen, choose) {
  const box = h("input", {
    type: "checkbox",
    checked: chosen.has(key),
    "aria-label": `Select ${server.name}`,
    dataset: { select: key },
    onchange: (event) => {
      const { checked } = /** @type {HTMLInputElement} */ (event.currentTarget);
      if (checked) chosen.add(key);
      else chosen.delete(key);
      choose();
    },
  });
  return box;
}

/**
 * @param {Row} row
 * @param {() => Promise<void>} again
 */
function actions({ pool, server }, again) {
  const up = server.state === "up";
  const [word, said] = up ? ["Drain", "is draining"] : ["Bring up", "takes new flows again"];
  const set = () => change(pool.name, server, { state: up ? "drain" : "up" }, `${server.name} ${said}`, again);
  return [
    button(word, set, { small: true, label: `${word} ${server.name}` }),
    button("", () => editServer(pool.name, server.name, again), {
      name: "edit",
      small: true,
      kind: "quiet",
      label: `Edit ${server.name}`,
    }),
  ];
}

/**
 * @param {Row} row
 * @param {() => Promise<void>} again
 */
function weight({ pool, server }, again) {
  const onchange = async (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    try {
      const patch = { weight: Number(input.value) };
      await change(pool.name, server, patch, `${server.name} has weight ${input.value}`, () => {
        if (Number(input.value) === patch.weight) settled(input);
        return again();
      });
    } catch (problem) {
      draw(input, String(server.weight));
      failed(problem);
    }
  };
  const label = `Weight of ${server.name}`;
  return number(server.weight, { min: "0", max: "1000", step: "1", class: "weight", "aria-label": label, onchange });
}

/**
 * @param {Seen} seen
 * @param {string} key
 */
function healthNow({ now, health }, key) {
  if (!now) return h("span.faint", "…");
  if (!now.sees_status)
    return h(
      "span.faint",
      { dataset: { hidden: "" }, title: "This token may not see the health of servers." },
      "hidden",
    );
  const server = health.get(key);
  if (server?.out) return h("span.faint", "out of service");
  const known = dispatchers(now).length || now.dispatcher;
  return [
    healthTag(server, known ? "not checked" : "unknown: no dispatcher reports"),
    server?.notes.length ? h("div.faint.note", server.notes[0]) : null,
  ];
}

/**
 * The weight that dispatchers select by, where that is not the weight that was set.
 * @param {Seen} seen
 * @param {string} key
 * @param {number} set
 */
function weightNow({ now, health }, key, set) {
  const own = ownWeights(now).get(key);
  const used = own ?? health.get(key)?.weight ?? set;
  return used === set ? "" : `now ${whole(used)}`;
}

/** @type {WeakMap<object, Map<string, number>>} */
const weights = new WeakMap();

/** @param {any} now */
function ownWeights(now) {
  const servers = now?.dispatcher?.servers;
  if (!servers) return new Map();
  const known =
    weights.get(servers) ??
    new Map(servers.map((/** @type {any} */ { pool, name, weight: used }) => [`${pool}/${name}`, used]));
  weights.set(servers, known);
  return known;
}

/**
 * @param {number | null} value
 * @param {(value: number) => string} shown
 */
function rateNow(value, shown) {
  return value === null ? "" : shown(value);
}

/**
 * Health and figures as they are now, into the places for them and nowhere else.
 * @param {HTMLElement} place
 * @param {Seen} seen
 */
export function showLive(place, seen) {
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-health]")))
    reconcile(each, healthNow(seen, each.dataset["health"] ?? ""));
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll("[data-weight]")))
    write(each, weightNow(seen, each.dataset["weight"] ?? "", Number(each.dataset["set"])));
  for (const [sort, , shown] of RATES)
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll(`[data-rate=${sort}]`)))
      write(each, rateNow(seen.numbers.of(each.dataset["of"] ?? "")[sort], shown));
}

/**
 * @param {HTMLElement} place
 * @param {string} text
 */
function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
