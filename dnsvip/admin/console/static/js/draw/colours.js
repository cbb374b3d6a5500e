// @ts-check
// The colours of names in charts, lists and bars: one for each meaning, the same on every page and after a reload.

/** Names that always mean the same. 2 is green, 3 amber, 5 red, 8 grey in both modes (base.css). */
const MEANING = new Map(
  Object.entries({
    anonymous: 8,
    others: 8,
    NOERROR: 2,
    NXDOMAIN: 3,
    REFUSED: 4,
    SERVFAIL: 5,
    FORMERR: 7,
    forward: 2,
    "bad-tag": 5,
    "bad-payload": 1,
    "bad-proof": 4,
    expired: 3,
    revoked: 6,
    unproven: 7,
  }),
);

/** Of names that are the site's own, such as tiers; without the red that means something is wrong, and the grey. */
const OWN = [1, 2, 4, 7, 3, 6];

/** @type {Map<string, number>} */
const given = new Map();

/**
 * The number of a name's colour, 1 to 8.
 * @param {string} name
 */
export function colourOf(name) {
  const known = MEANING.get(name) ?? given.get(name);
  if (known) return known;
  const first = hash(name);
  const taken = new Set(given.values());
  const free = OWN.map((_, step) => OWN[(first + step) % OWN.length] ?? 1);
  const colour = free.find((each) => !taken.has(each)) ?? free[0] ?? 1;
  given.set(name, colour);
  return colour;
}

/** @param {string} name */
function hash(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 9973, 7);
}
