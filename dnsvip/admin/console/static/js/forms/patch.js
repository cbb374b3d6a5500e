// @ts-check
// Merge patches (RFC 7396): what makes one object of another, and what takes that back.

/** @typedef {Record<string, any>} Json */

/**
 * The patch that makes `after` of `before`: what is equal is left out, what is gone is null.
 * @param {Json} before
 * @param {Json} after
 * @returns {Json}
 */
export function difference(before, after) {
  /** @type {Map<string, any>} */
  const patch = new Map();
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [own(before, key), own(after, key)];
    if (isObject(old) && isObject(now)) {
      const inner = difference(old, now);
      if (Object.keys(inner).length) patch.set(key, inner);
    } else if (JSON.stringify(old) !== JSON.stringify(now)) patch.set(key, now);
  }
  return Object.fromEntries(patch);
}

/**
 * What an object has under a key, null where it has nothing; keys such as "__proto__" are like all others.
 * @param {Json} object
 * @param {string} key
 */
function own(object, key) {
  return Object.hasOwn(object, key) ? (object[key] ?? null) : null;
}

/**
 * The patch that takes back what `patch` has changed of `before`.
 * @param {Json} before
 * @param {Json} patch
 * @returns {Json}
 */
export function inverse(before, patch) {
  return Object.fromEntries(
    Object.entries(patch).map(([key, value]) => {
      const old = own(before, key);
      return [key, isObject(value) && isObject(old) ? inverse(old, value) : old];
    }),
  );
}

/** @param {unknown} value */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * An object without the keys that have no value, at any depth, as it is written when it is new.
 * @param {any} value
 * @returns {any}
 */
export function given(value) {
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== undefined && inner !== null)
      .map(([key, inner]) => [key, given(inner)]),
  );
}
