// Audit rows: who changed what, and the old beside the new value.
import { at, get } from "./api.js";
import { h } from "./dom.js";
import { ago, count, moment } from "./format.js";
import { empty } from "./parts.js";

const MOST = 24;
const WORDS = { "+": "made", "~": "changed", "-": "removed" };

/** The newest rows about one object. */
export async function historyOf(kind, name, signal) {
  const { items } = await get(
    kind === "client"
      ? `${at("clients", name)}/history?limit=20`
      : `audit?kind=${kind}&name=${encodeURIComponent(name)}&limit=20`,
    { signal },
  );
  if (!items.length) return empty("Nothing is recorded");
  return h(
    "ol.history",
    items.map((row) => h("li", title(row), changes(row))),
  );
}

/** Who did it, and when. */
function title(row) {
  return h(
    "div.row",
    h("strong", WORDS[row.action] ?? row.action),
    h("span.soft", row.actor),
    h("time.faint", { datetime: new Date(row.at * 1000).toISOString(), title: moment(row.at) }, ago(row.at)),
  );
}

/** What is different, key by key. */
export function changes({ before, after, action }) {
  const [old, now] = [flat(before ?? {}), flat(after ?? {})];
  const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter((key) => old[key] !== now[key]).sort();
  if (!keys.length) return null;
  const told = keys.filter((key) => action === "~" || ((old[key] ?? now[key]) !== "none" && key !== "name"));
  const list = h(
    "dl.diff",
    told
      .slice(0, MOST)
      .map((key) => [
        h("dt.mono", key),
        h(
          "dd.mono",
          key in old && action !== "+" ? h("del", old[key]) : null,
          key in now && action !== "-" ? h("ins", now[key]) : null,
        ),
      ]),
    told.length > MOST ? h("dd.faint", `and ${told.length - MOST} more`) : null,
  );
  return action === "~" ? list : h("details.values", h("summary", count(told.length, "value")), list);
}

export { WORDS };

function flat(value, path = "") {
  if (value === null || typeof value !== "object") return { [path]: value === null ? "none" : String(value) };
  if (Array.isArray(value)) {
    const simple = value.every((each) => each === null || typeof each !== "object");
    if (simple) return { [path]: value.join(", ") || "none" };
  }
  const parts = Object.entries(value).map(([key, inner]) => flat(inner, path ? `${path}.${inner?.name ?? key}` : key));
  return Object.assign({}, ...parts);
}
