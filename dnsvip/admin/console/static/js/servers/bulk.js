// @ts-check
// What is done to many servers at once: one request, its outcome for each server, and the way back.
import { call } from "../api/api.js";
import { h } from "../draw/dom.js";
import { count } from "../draw/format.js";
import { hurry } from "../api/live.js";
import { confirm, done, open } from "../draw/notices.js";
import { button } from "../draw/parts.js";
import { table } from "../lists/table.js";

/** @typedef {import("../api/api.js").Schemas["StateOutcome"]} Outcome */
/** @typedef {Record<string, string>} States */

const AT_ONCE = 2000;

/**
 * Give servers their states; the toast's undo gives them those that they had.
 * @param {States} states  by POOL/NAME
 * @param {string} said  what is said of them: "draining"
 * @param {() => unknown} again
 */
async function setStates(states, said, again) {
  const outcomes = await sent(states);
  await again();
  hurry();
  const refused = outcomes.filter((outcome) => outcome.error);
  const changed = outcomes.filter((outcome) => !outcome.error && outcome.before !== outcome.after);
  if (refused.length) showRefused(outcomes, refused);
  const back = Object.fromEntries(changed.map((outcome) => [outcome.server, outcome.before ?? ""]));
  const undo = async () => {
    await sent(back);
    await again();
    hurry();
  };
  const text = `${count(changed.length, "server")} ${changed.length === 1 ? "is" : "are"} ${said}`;
  done(changed.length ? text : "Nothing to change", changed.length ? undo : undefined);
}

/**
 * Ask where pools would be left without a server that takes new flows; false where that is not wanted.
 * @param {import("./list.js").Row[]} rows  all there are
 * @param {Set<string>} chosen  those that are to be taken out
 * @param {string} action
 */
async function leavesSome(rows, chosen, action) {
  const touched = new Set(rows.filter((row) => chosen.has(row.key)).map((row) => row.pool.name));
  for (const { key, pool, server } of rows) if (server.state === "up" && !chosen.has(key)) touched.delete(pool.name);
  if (!touched.size) return true;
  const pools = [...touched].sort().join(", ");
  const text = `No server of ${pools} would take new flows. They go to the pool’s fallback, or are dropped where it has none.`;
  return confirm({ title: `${action} all of ${pools}?`, text, action, danger: true });
}

/**
 * @param {States} states
 * @returns {Promise<Outcome[]>}
 */
async function sent(states) {
  const entries = Object.entries(states);
  /** @type {Outcome[]} */
  const outcomes = [];
  for (let from = 0; from < entries.length; from += AT_ONCE) {
    const body = { states: Object.fromEntries(entries.slice(from, from + AT_ONCE)) };
    outcomes.push(...(await call("POST", "server-states", { body })).data.items);
  }
  return outcomes;
}

/**
 * @param {Outcome[]} outcomes
 * @param {Outcome[]} refused
 */
function showRefused(outcomes, refused) {
  /** @type {import("../lists/table.js").Column<Outcome>[]} */
  const columns = [
    { title: "Server", cell: (outcome) => h("strong", outcome.server) },
    { title: "Why", cell: (outcome) => h("span.bad-text", outcome.error ?? "") },
  ];
  const list = table("Not changed", columns, refused, { key: (outcome) => outcome.server });
  open(`${refused.length} of ${count(outcomes.length, "server")} not changed`, list, { wide: true });
}

/**
 * What can be done with the servers that are selected.
 * @param {Set<string>} chosen
 * @param {() => import("./list.js").Row[]} rows  all there are
 * @param {{ again: () => Promise<void>, paint: () => void }} then
 */
export function bulkBar(chosen, rows, { again, paint }) {
  const clear = () => {
    chosen.clear();
    paint();
  };
  const set = (/** @type {string} */ state, /** @type {string} */ action, /** @type {string} */ said) => async () => {
    if (state !== "up" && !(await leavesSome(rows(), chosen, action))) return;
    await setStates(Object.fromEntries([...chosen].map((key) => [key, state])), said, again);
    clear();
  };
  return [
    h("strong", { role: "status" }, `${count(chosen.size, "server")} selected`),
    h(
      "div.row.push",
      button("Drain", set("drain", "Drain", "draining"), { kind: "main-action", label: "Drain selected" }),
      button("Bring up", set("up", "Bring up", "up"), { label: "Bring up selected" }),
      button("Maintenance", set("maint", "Put into maintenance", "in maintenance"), {
        label: "Maintenance for selected",
      }),
      button("Clear", clear, { kind: "quiet" }),
    ),
  ];
}
