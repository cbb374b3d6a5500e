// @ts-check
// Audit rows: who changed what, and the old beside the new value.
import { at, get } from "../api/api.js";
import { h } from "../draw/dom.js";
import { ago, count, moment } from "../draw/format.js";
import { empty } from "../draw/parts.js";

/** @typedef {import("../api/api.js").Schemas["AuditRow"]} Row */

const MOST = 24;

/** What an action is called. @type {Record<string, string>} */
export const WORDS = { "+": "created", "~": "changed", "-": "removed" };

/**
 * The newest rows about one object.
 * @param {string} kind
 * @param {string} name
 * @param {AbortSignal} [signal]
 */
export async function historyOf(kind, name, signal) {
  const { items } = await get(
    kind === "client"
      ? `${at("clients", name)}/history?limit=20`
      : `audit?kind=${kind}&name=${encodeURIComponent(name)}&limit=20`,
    { signal },
  );
  if (!items.length) return empty("No changes recorded");
  return h(
    "ol.history",
    items.map((/** @type {Row} */ row) => h("li", title(row), changes(row))),
  );
}

/**
 * Who did it, and when.
 * @param {Row} row
 */
function title(row) {
  return h(
    "div.row",
    h("strong", WORDS[row.action] ?? row.action),
    h("span.soft", row.actor, from(row)),
    h("time.faint", { datetime: new Date(row.at * 1000).toISOString(), title: moment(row.at) }, ago(row.at)),
  );
}

/**
 * Where the call came from, if one did.
 * @param {Row} row
 */
export function from({ source }) {
  return source && ` from ${source === "unix" ? "the Unix socket" : source}`;
}

/**
 * What is different, key by key.
 * @param {{ before?: any, after?: any, action: string }} row
 */
export function changes({ before, after, action }) {
  const [old, now] = [flat(before ?? {}), flat(after ?? {})];
  const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter((key) => old[key] !== now[key]).sort();
  if (!keys.length) return null;
  const shown = keys.filter((key) => action === "~" || ((old[key] ?? now[key]) !== "none" && key !== "name"));
  const list = h(
    "dl.diff",
    shown
      .slice(0, MOST)
      .map((key) => [
        h("dt.mono", key),
        h(
          "dd.mono",
          key in old && action !== "+" ? h("del", old[key]) : null,
          key in now && action !== "-" ? h("ins", now[key]) : null,
        ),
      ]),
    shown.length > MOST ? h("dd.faint", `and ${shown.length - MOST} more`) : null,
  );
  return action === "~" ? list : h("details.values", h("summary", count(shown.length, "value")), list);
}

/**
 * @param {any} value
 * @returns {Record<string, string>}
 */
function flat(value, path = "") {
  if (value === null || typeof value !== "object") return { [path]: value === null ? "none" : String(value) };
  if (Array.isArray(value)) {
    const simple = value.every((each) => each === null || typeof each !== "object");
    if (simple) return { [path]: value.join(", ") || "none" };
  }
  const parts = Object.entries(value).map(([key, inner]) => flat(inner, path ? `${path}.${inner?.name ?? key}` : key));
  return Object.assign({}, ...parts);
}
