// @ts-check
// Rates by counter, as charts and figures show them: those of a group, added up, the largest of many.

/** @typedef {import("./live.js").State} State */
/** @typedef {import("./live.js").Rate} Rate */
/** @typedef {import("../draw/chart.js").Series} Series */

const MOST = 7;

/** Why an address is invalid. What is done with its packets is its cluster's `on_invalid` or `on_expired`. */
const INVALID = new Set([
  "unknown-epoch",
  "bad-tag",
  "bad-payload",
  "expired",
  "revoked",
  "unproven",
  "bad-proof",
  "replayed",
]);

/**
 * The counters of a group ("dns.tiers") as series, the largest with names of their own. `named` gives the name of the series
 * that a counter belongs to, null for none.
 * @param {State} state
 * @param {string} group
 * @param {(counter: string) => string | null} [named]
 * @returns {Series[]}
 */
export function seriesOf(state, group, named = (counter) => counter) {
  /** @type {Map<string, Rate[][]>} */
  const columns = new Map();
  for (const [counter, values] of ofGroup(state, group)) {
    const name = named(counter);
    if (name !== null) columns.set(name, [...(columns.get(name) ?? []), values]);
  }
  const sized = [...columns]
    .map(([name, each]) => ({ name, values: added(state, each) }))
    .map((series) => ({ ...series, size: sizeOf(series.values) }))
    .filter(({ size }) => size > 0)
    .sort((a, b) => b.size - a.size);
  const kept = sized.slice(0, MOST).sort((a, b) => a.name.localeCompare(b.name));
  const rest = sized.slice(MOST).map(({ values }) => values);
  return rest.length ? [...kept, { name: "others", values: added(state, rest), colour: 8 }] : kept;
}

/**
 * The counters of a group that are wanted, added up.
 * @param {State} state
 * @param {string} group
 * @param {(counter: string) => string | null} [named]
 */
export function total(state, group, named = (counter) => counter) {
  const columns = ofGroup(state, group).filter(([counter]) => named(counter) !== null);
  if (columns.length) {
    const values = columns.map(([, column]) => column);
    return added(state, values);
  }
  const heard = state.heard[group.split(".")[0] ?? ""] ?? [];
  return state.times.map((_, place) => (heard[place] ? 0 : null));
}

/**
 * The reason of dropped packets, by the counter REASON.ACTION.
 * @param {string} counter
 */
export function dropped(counter) {
  const [reason = "", action] = counter.split(".");
  return action === "drop" || action === "answer" ? reason : null;
}

/**
 * The reason of packets to invalid addresses that were forwarded all the same.
 * @param {string} counter
 */
export function tolerated(counter) {
  const [reason = "", action] = counter.split(".");
  return action === "forward" && INVALID.has(reason) ? reason : null;
}

/**
 * @param {State} state
 * @param {string} group
 * @returns {[string, Rate[]][]}
 */
function ofGroup(state, group) {
  const own = Object.entries(state.rates).filter(([name]) => name.startsWith(`${group}.`));
  return own.map(([name, values]) => [name.slice(group.length + 1), values]);
}

/** @param {Rate[]} values */
function sizeOf(values) {
  return values.map((value) => value ?? 0).reduce((sum, value) => sum + value, 0);
}

/**
 * Null where none of them is known.
 * @param {State} state
 * @param {Rate[][]} columns
 * @returns {Rate[]}
 */
function added(state, columns) {
  return state.times.map((_, place) =>
    columns.reduce((sum, values) => {
      const value = values[place] ?? null;
      return value === null ? sum : (sum ?? 0) + value;
    }, /** @type {Rate} */ (null)),
  );
}
