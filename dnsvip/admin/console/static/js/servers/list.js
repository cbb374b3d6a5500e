// @ts-check
// Servers of all pools as one list: what condition each is in, which are wanted, in which order and groups.

/** @typedef {import("../api/api.js").Schemas["Server"]} Server */
/** @typedef {import("../api/api.js").Schemas["PoolShown"]} Pool */
/** @typedef {{ key: string, pool: Pool, server: Server }} Row */
/** @typedef {{ name: string, pool: Pool | null, rows: Row[] }} Group */
/** @typedef {{ q: string, pool: string, condition: string, by: string, sort: string }} Wanted */

/**
 * The conditions of a server by what they mean for an operator, the worst first: [condition, colour].
 * @type {[string, string][]}
 */
export const CONDITIONS = [
  ["failing", "bad"],
  ["down", "bad"],
  ["maintenance", "warn"],
  ["draining", "warn"],
  ["up, health unknown", ""],
  ["in service", "good"],
];

const ORDER = new Map(CONDITIONS.map(([name], place) => [name, place]));

/** The state that an operator has set -> its condition. @type {Record<string, string>} */
const SET = { drain: "draining", maint: "maintenance", down: "down" };

/**
 * The condition of a server: as it was set, and failing where it is up and a dispatcher's check of it fails.
 * @param {Server} server
 * @param {import("./health.js").Health | undefined} health
 * @param {boolean} known  whether a dispatcher reports, and the session may see that
 */
export function conditionOf(server, health, known) {
  return SET[server.state] ?? (!known ? "up, health unknown" : health && !health.passing ? "failing" : "in service");
}

/**
 * @param {Pool[]} pools
 * @returns {Row[]}
 */
export function rowsOf(pools) {
  return pools.flatMap((pool) =>
    /** @type {Server[]} */ (pool.servers ?? []).map((server) => ({
      key: `${pool.name}/${server.name}`,
      pool,
      server,
    })),
  );
}

/**
 * The rows that are wanted, without regard to their condition.
 * @param {Row[]} rows
 * @param {Wanted} wanted
 */
export function matching(rows, { q, pool }) {
  const text = q.toLowerCase();
  return rows.filter(
    (row) =>
      (!pool || row.pool.name === pool) &&
      (!text || row.key.toLowerCase().includes(text) || row.server.address.includes(text)),
  );
}

/**
 * How many rows there are in each condition.
 * @param {Row[]} rows
 * @param {(row: Row) => string} condition
 * @returns {Map<string, number>}
 */
export function counted(rows, condition) {
  const counts = new Map(CONDITIONS.map(([name]) => [name, 0]));
  for (const row of rows) counts.set(condition(row), (counts.get(condition(row)) ?? 0) + 1);
  return counts;
}

/**
 * The rows in groups, each in order. By pool there is a group for each pool that is wanted, with or without servers.
 * @param {Pool[]} pools
 * @param {Row[]} rows
 * @param {Wanted} wanted
 * @param {(row: Row) => string} condition
 * @param {(row: Row) => number} value  by which rows are ordered, the greatest first
 * @returns {Group[]}
 */
export function grouped(pools, rows, wanted, condition, value) {
  const order = (/** @type {Row} */ a, /** @type {Row} */ b) => value(b) - value(a) || compare(a.key, b.key);
  const sorted = [...rows].sort(order);
  if (wanted.by === "condition")
    return CONDITIONS.map(([name]) => ({
      name,
      pool: null,
      rows: sorted.filter((row) => condition(row) === name),
    })).filter((group) => group.rows.length);
  const narrowed = Boolean(wanted.q || wanted.condition);
  return pools
    .filter((pool) => !wanted.pool || pool.name === wanted.pool)
    .map((pool) => ({ name: pool.name, pool, rows: sorted.filter((row) => row.pool.name === pool.name) }))
    .filter((group) => group.rows.length || !narrowed);
}

/**
 * The place of a condition in the order of trouble.
 * @param {string} condition
 */
export function trouble(condition) {
  return CONDITIONS.length - (ORDER.get(condition) ?? CONDITIONS.length);
}

/**
 * By name, numbers within names as numbers.
 * @param {string} a
 * @param {string} b
 */
function compare(a, b) {
  return a.localeCompare(b, "en", { numeric: true });
}
