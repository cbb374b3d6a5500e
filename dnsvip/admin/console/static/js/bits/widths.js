// @ts-check
// The widths of a cluster's addresses as numbers: what fits, what is left, what follows. The format is described in
// address/README.md; the server checks all of it again.

/** @typedef {{ name: string, bits: number }} Part */
/** @typedef {{ prefix: number | null, fields: Part[], claims: Part[], tag: number }} Widths  `prefix` null: not known yet */

export const WHOLE = 128;
export const TAG = { least: 8, most: 64, short: 16 };
const PAYLOAD = { least: 20, most: 80 };
/** Mode and epoch. */
export const HEAD = 3;

/** @param {Part[]} parts */
export const sum = (parts) => parts.reduce((all, part) => all + part.bits, 0);

/**
 * The bits that are left for the tag; null while the prefix is not known.
 * @param {Widths} widths
 */
export function leftForTag({ prefix, fields, claims }) {
  return prefix === null ? null : WHOLE - prefix - HEAD - sum(fields) - sum(claims);
}

/**
 * What does not add up, in a sentence; "" where all does.
 * @param {Widths} widths
 */
export function fault(widths) {
  const left = leftForTag(widths);
  const payload = sum(widths.fields);
  if (left === null) return "A prefix with its length, such as 2001:db8:a:1::/64, says how many bits there are.";
  if (widths.fields.some(({ bits }) => !(bits >= 1))) return "Every field needs at least one bit.";
  if (payload < PAYLOAD.least) return `The fields have ${payload} bits; ${PAYLOAD.least} are the least.`;
  if (payload > PAYLOAD.most) return `The fields have ${payload} bits; ${PAYLOAD.most} are the most.`;
  if (left < TAG.least) return `Only ${Math.max(left, 0)} bits are left for the tag; ${TAG.least} are the least.`;
  if (left > TAG.most) return `${left} bits are left for the tag; ${TAG.most} are the most: widen a field.`;
  if (widths.tag !== left) return `The tag has ${widths.tag} bits, and ${left} are left for it.`;
  return "";
}

/**
 * How many bits may go from the part behind a boundary to the one before it, from - to +. The last boundary is that
 * between fields and tag.
 * @param {Widths} widths
 * @param {number} place
 */
export function room({ fields, tag }, place) {
  const before = fields[place]?.bits ?? 1;
  const least = 1 - before;
  if (place < fields.length - 1) return { least, most: (fields[place + 1]?.bits ?? 1) - 1 };
  const payload = sum(fields);
  return {
    least: Math.max(least, PAYLOAD.least - payload, tag - TAG.most),
    most: Math.min(PAYLOAD.most - payload, tag - TAG.least),
  };
}

/**
 * The odds that a forged address passes, as "1 in 16,777,216".
 * @param {number} bits
 */
export function odds(bits) {
  const number = 2 ** bits;
  const shown =
    bits < 50 ? new Intl.NumberFormat("en").format(number) : number.toExponential(1).replace("e+", " × 10^");
  return `1 in ${shown}`;
}

/**
 * What a field has room for.
 * @param {Part} part
 */
export function capacity({ name, bits }) {
  const number = new Intl.NumberFormat("en", {
    notation: bits > 40 ? "scientific" : "standard",
    maximumFractionDigits: 1,
  });
  const most = number.format(2 ** bits - (name === "client" ? 1 : 0));
  const words = new Map(
    Object.entries({
      tier: "tiers",
      client: "clients",
      expiry: "steps of time",
      nonce: "addresses for each client",
      session: "sessions",
    }),
  );
  return `${most} ${words.get(name) ?? "values"}`;
}
