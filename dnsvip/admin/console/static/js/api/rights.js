// @ts-check
// What the session's token may do and see. The API decides; this only avoids offering what it would refuse, and says what
// is hidden.

/** @typedef {{ actions: string[], kinds: string[], [narrowed: string]: string[] }} Scope */

const ALL = "*";

/** @type {Scope[]} */
let scopes = [];

/** Kind -> the field of a scope that narrows it. @type {Record<string, string>} */
let narrowedBy = {};

/**
 * Take over the scopes of the session that begins, and by which of their fields each kind is narrowed.
 * @param {Scope[]} given
 * @param {Record<string, string>} narrowed
 */
export function setRights(given, narrowed) {
  scopes = given;
  narrowedBy = narrowed;
}

/**
 * Whether an action (read, write, delete, rotate) on a kind of object is allowed: on the one named, or on any at all.
 * @param {string} action
 * @param {string} kind
 * @param {string} [name]
 */
export function may(action, kind, name) {
  return allowing(action, kind).some((scope) => name === undefined || fits(patternsOf(scope, kind), kind, name));
}

/**
 * What the names of the objects of a kind that may be read fit; null: any name.
 * @param {string} kind
 * @returns {string[] | null}
 */
export function seen(kind) {
  const patterns = allowing("read", kind).flatMap((scope) => patternsOf(scope, kind));
  return patterns.includes(ALL) ? null : [...new Set(patterns)];
}

/**
 * Whether a client may be given a tier, as far as its name and tier say.
 * @param {string} tier
 */
export function mayGive(tier) {
  return allowing("write", "client").some((scope) => fits(scope["tiers"] ?? [ALL], "tier", tier));
}

/**
 * @param {string} action
 * @param {string} kind
 */
function allowing(action, kind) {
  const covers = (/** @type {Scope} */ scope) => scope.kinds.includes(ALL) || scope.kinds.includes(kind);
  return scopes.filter((scope) => scope.actions.includes(action) && covers(scope));
}

/**
 * @param {Scope} scope
 * @param {string} kind
 */
function patternsOf(scope, kind) {
  return scope[narrowedBy[kind] ?? ""] ?? [ALL];
}

/**
 * @param {string[]} patterns
 * @param {string} kind
 * @param {string} name
 */
function fits(patterns, kind, name) {
  return patterns.some((pattern) => {
    const whole = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return new RegExp(kind === "service" ? `^(.*\\.)?${whole}$` : `^${whole}$`).test(name);
  });
}
