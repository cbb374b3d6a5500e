// Which page is shown: the part of the address after #, and its query. A page is left before the next one begins.

/** The place that the address names: {parts: ["clients", "acme"], query: {tier: "gold"}}. */
export function here() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  return { parts: parts.length ? parts : ["overview"], query: Object.fromEntries(new URLSearchParams(search)) };
}

/** The address of a place. */
export function link(parts, query = {}) {
  const path = [parts].flat().map(encodeURIComponent).join("/");
  const set = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return `#/${path}${set.length ? `?${new URLSearchParams(set)}` : ""}`;
}

/** Go to a place. */
export function go(parts, query) {
  location.hash = link(parts, query);
}

/** Write another query for the same page into the address without showing the page anew. */
export function note(parts, query) {
  history.replaceState(null, "", link(parts, query));
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
