// @ts-check
// What each server gets now from this machine's dispatcher: rates from two readings of what that counts.

/** @typedef {{ packets: number, bytes: number | null, flows: number | null }} Counted  since the dispatcher's start */
/** @typedef {{ packets: number | null, bytes: number | null, flows: number | null }} Rates  per second; null: unknown */

/** @type {Rates} */
export const UNKNOWN = { packets: null, bytes: null, flows: null };

/**
 * Reads what is counted at each poll; `of(key)` gives the rates of a server, POOL/NAME.
 */
export function serverNumbers() {
  /** @type {{ at: number, counted: Map<string, Counted> } | null} */
  let before = null;
  /** @type {Map<string, Rates>} */
  let rates = new Map();
  return {
    /** @param {any} now */
    read: (now) => {
      if (now.at === before?.at) return;
      const counted = countedIn(now);
      const seconds = now.at - (before?.at ?? now.at);
      rates = new Map([...counted].map(([key, each]) => [key, since(before?.counted.get(key), each, seconds)]));
      before = { at: now.at, counted };
    },
    of: (/** @type {string} */ key) => rates.get(key) ?? UNKNOWN,
    /** Whether anything of a sort is counted. @param {"bytes" | "flows" | "packets"} sort */
    has: (sort) => [...(before?.counted.values() ?? [])].some((each) => each[sort] !== null),
  };
}

/**
 * @param {any} now
 * @returns {Map<string, Counted>}
 */
function countedIn(now) {
  const servers = now.dispatcher?.error ? [] : (now.dispatcher?.servers ?? []);
  return new Map(
    servers.map((/** @type {any} */ { pool, name, packets, bytes, new_flows: flows }) => [
      `${pool}/${name}`,
      { packets: packets ?? 0, bytes: bytes ?? null, flows: flows ?? null },
    ]),
  );
}

/**
 * Null where a figure is not known, or was counted anew by a dispatcher that has restarted.
 * @param {Counted | undefined} old
 * @param {Counted} now
 * @param {number} seconds
 * @returns {Rates}
 */
function since(old, now, seconds) {
  const rate = (/** @type {number | null | undefined} */ from, /** @type {number | null} */ to) =>
    typeof from === "number" && to !== null && to >= from && seconds > 0 ? (to - from) / seconds : null;
  return {
    packets: rate(old?.packets, now.packets),
    bytes: rate(old?.bytes, now.bytes),
    flows: rate(old?.flows, now.flows),
  };
}
