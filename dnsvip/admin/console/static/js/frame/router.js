// @ts-check
// Which page is shown: the part of the address after #, and its query. A page is left before the next one begins.

/** @typedef {Record<string, string | number | null | undefined>} Query */

/**
 * The place that the address names: {parts: ["clients", "acme"], query: {tier: "gold"}}.
 * @returns {{ parts: string[], query: Record<string, string> }}
 */
export function here() {
  const [path = "", search] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  return { parts: parts.length ? parts : ["overview"], query: Object.fromEntries(new URLSearchParams(search)) };
}

/**
 * The address of a place.
 * @param {string | string[]} parts
 * @param {Query} query
 */
export function link(parts, query = {}) {
  const path = [parts].flat().map(encodeURIComponent).join("/");
  const set = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return `#/${path}${set.length ? `?${new URLSearchParams(set.map(([key, value]) => [key, String(value)]))}` : ""}`;
}

/**
 * Go to a place.
 * @param {string | string[]} parts
 * @param {Query} [query]
 */
export function go(parts, query) {
  location.hash = link(parts, query);
}

/**
 * Write another query for the same page into the address without showing the page anew.
 * @param {string | string[]} parts
 * @param {Query} query
 */
export function note(parts, query) {
  history.replaceState(null, "", link(parts, query));
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
