// @ts-check
// Addresses as bits, by the format's description (address/README.md). Nothing is decrypted here: the API does that.

/** @typedef {{ name: string, from: number, bits: number, colour: string, value?: string }} Field */
/** @typedef {{ prefix: string, plain: string, layout: [string, number][], claims?: [string, number][], tag_bits: number }} Cluster */

const KNOWN = new Set(["tier", "client", "expiry", "nonce", "session"]);

/**
 * The 128 bits of an IPv6 address as a string of 0 and 1; null where the text is not one.
 * @param {string} text
 */
export function parseAddress(text) {
  if (!text.includes(":")) return null;
  const [front = "", back] = text.split("::");
  const words = (/** @type {string | undefined} */ part) => (part ? part.split(":") : []);
  const [head, tail] = [words(front), words(back)];
  const missing = 8 - head.length - tail.length;
  if (text.split("::").length > 2 || (back === undefined ? missing !== 0 : missing < 1)) return null;
  const all = [...head, ...Array(back === undefined ? 0 : missing).fill("0"), ...tail];
  if (!all.every((word) => /^[0-9a-f]{1,4}$/i.test(word))) return null;
  return all.map((word) => Number.parseInt(word, 16).toString(2).padStart(16, "0")).join("");
}

/**
 * Where each part of an encoded address of `cluster` stands: {name, from, bits, colour, value}.
 * @param {Cluster} cluster
 * @param {any} found  the API's decoding
 * @returns {Field[]}
 */
export function fieldsOf(cluster, found) {
  const prefix = Number(cluster.prefix.split("/")[1]);
  const payload = cluster.layout.reduce((sum, [, bits]) => sum + bits, 0);
  if (isPlain(cluster, found))
    return [
      { name: "prefix", from: 0, bits: prefix, colour: "prefix", value: cluster.prefix },
      { name: "plain VIP", from: prefix, bits: 128 - prefix, colour: "other", value: "carries no fields" },
    ];
  const said = cluster.claims ?? [];
  const claimed = said.reduce((sum, [, bits]) => sum + bits, 0);
  const names = said
    .filter(([name]) => Object.hasOwn(found.values, name))
    .map(([name]) => `${name} ${found.values[name]}`);
  const cheap = Math.floor(cluster.tag_bits / 3);
  /** @type {[string, number, string, string][]} */
  const tag = found.mode
    ? [
        ["tag", cheap, "tag", "by the DNS server"],
        ["proof", cluster.tag_bits - cheap, "session", "by the client’s key"],
      ]
    : [["tag", cluster.tag_bits, "tag", "by the DNS server"]];
  /** @type {[string, number, string, string][]} */
  const parts = [
    ["prefix", prefix, "prefix", cluster.prefix],
    ["mode", 1, "mode", found.mode ? "1, proven" : "0, issued"],
    ["epoch", 2, "epoch", `slot ${found.epoch}`],
    ["ciphertext", payload, "cipher", "tier, client and the rest, encrypted"],
    ...(claimed ? [/** @type {typeof tag[0]} */ (["claims", claimed, "other", names.join(", ") || "none"])] : []),
    ...tag,
  ];
  let from = 0;
  return parts.map(([name, bits, colour, value]) => {
    const field = { name, from, bits, colour, value };
    from += bits;
    return field;
  });
}

/**
 * Whether it is the plain VIP, in which nothing is encoded.
 * @param {Cluster} cluster
 * @param {any} found
 */
export function isPlain(cluster, found) {
  return found.reason === "plain" || found.address === cluster.plain;
}

/**
 * The payload's bits put together from its values, and where each field stands in them.
 * @param {[string, number][]} layout
 * @param {Record<string, number>} values
 */
export function bitsOf(layout, values) {
  let from = 0;
  const fields = layout.map(([name, bits]) => {
    const field = { name, from, bits, colour: KNOWN.has(name) ? name : "other" };
    from += bits;
    return field;
  });
  const bits = layout
    .map(([name, size]) =>
      BigInt((Object.hasOwn(values, name) && values[name]) || 0)
        .toString(2)
        .padStart(size, "0"),
    )
    .join("");
  return { bits, fields };
}
