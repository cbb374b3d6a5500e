// @ts-check
// What the session's token may do. The API decides; this only avoids offering what it would refuse.

/** @typedef {{ actions: string[], kinds: string[], [narrowed: string]: string[] }} Scope */

/** @type {Record<string, string>} */
const NARROWED = { client: "clients", zone: "zones", service: "zones", cluster: "clusters", key: "clusters" };

/** @type {Scope[]} */
let scopes = [];

/**
 * Take over the scopes of the session that begins.
 * @param {Scope[]} given
 */
export function setRights(given) {
  scopes = given;
}

/**
 * Whether an action (read, write, delete, rotate) on a kind of object is allowed: on the one named, or on any at all.
 * @param {string} action
 * @param {string} kind
 * @param {string} [name]
 */
export function may(action, kind, name) {
  const covers = (/** @type {Scope} */ scope) =>
    scope.actions.includes(action) && (scope.kinds.includes("*") || scope.kinds.includes(kind));
  return scopes.some((scope) => covers(scope) && (name === undefined || fits(scope[NARROWED[kind] ?? ""], kind, name)));
}

/**
 * @param {string[] | undefined} patterns
 * @param {string} kind
 * @param {string} name
 */
function fits(patterns, kind, name) {
  if (!patterns) return true;
  return patterns.some((pattern) => {
    const whole = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return new RegExp(kind === "service" ? `^(.*\\.)?${whole}$` : `^${whole}$`).test(name);
  });
}
