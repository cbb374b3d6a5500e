// @ts-check
// What a search finds: asking for it, and where each thing that it finds is shown.
import { get, query as asQuery } from "../api/api.js";
import { link } from "./router.js";

/** @typedef {{ kind: string, name: string, of: string | null, detail: string | null }} Match */
/** @typedef {{ items: Match[], more: string[], incomplete: string[] }} Found */

/** The kinds in the order that they are shown in, and what they are called. @type {[string, string, string][]} */
export const KINDS = [
  ["address", "Addresses", "address"],
  ["client", "Clients", "clients"],
  ["service", "Services", "services"],
  ["zone", "Zones", "zones"],
  ["record", "Records", "zones"],
  ["server", "Servers", "servers"],
  ["pool", "Pools", "servers"],
  ["tier", "Tiers", "site"],
  ["cluster", "Clusters", "site"],
  ["dns_group", "DNS groups", "dnsgroups"],
  ["dns_token", "DNS tokens", "dnstokens"],
  ["tsig", "TSIG keys", "lock"],
];

/** @type {Record<string, (match: Match) => string>} */
const PLACES = {
  address: ({ name }) => link("address", { address: name }),
  client: ({ name }) => link(["clients", name]),
  service: ({ name }) => link("services", { q: name }),
  zone: ({ name }) => link(["zones", name]),
  record: ({ name, of }) => link(["zones", of ?? name], { find: name }),
  server: ({ name, of }) => link("servers", { q: name, pool: of ?? "" }),
  pool: ({ name }) => link("servers", { pool: name }),
  tier: () => link("site"),
  cluster: () => link("site"),
  dns_group: ({ name }) => link("dnsgroups", { q: name }),
  dns_token: ({ name }) => link(["dnstokens", name]),
  tsig: ({ name }) => link(["tsig", name]),
};

/**
 * Where a match is shown.
 * @param {Match} match
 */
export function placeOf(match) {
  return PLACES[match.kind]?.(match) ?? link("search", { q: match.name });
}

/**
 * Search for a text.
 * @param {string} text
 * @param {number} limit  most of each kind
 * @param {AbortSignal} [signal]
 * @returns {Promise<Found>}
 */
export async function search(text, limit, signal) {
  return get(`search${asQuery({ q: text, limit })}`, signal ? { signal } : {});
}

/**
 * The matches by kind, in the order that they are shown in.
 * @param {Found} found
 */
export function grouped(found) {
  const groups = KINDS.map(([kind, title, icon]) => ({
    kind,
    title,
    icon,
    items: found.items.filter((item) => item.kind === kind),
  }));
  return groups.filter(({ items }) => items.length);
}

/**
 * The one match that a text means: an address, or the only thing of exactly this name.
 * @param {Found} found
 * @param {string} text
 */
export function meant(found, text) {
  const address = found.items.find(({ kind }) => kind === "address");
  const low = text.toLowerCase().replace(/\.$/, "");
  const exact = found.items.filter(({ kind, name }) => kind !== "record" && name.toLowerCase() === low);
  return address ?? (exact.length === 1 ? exact[0] : undefined);
}

/** @param {string[]} kinds */
export function inWords(kinds) {
  const titles = new Map(
    KINDS.map(([kind, title]) => [kind, title.replace(/^[A-Z](?=[a-z])/, (each) => each.toLowerCase())]),
  );
  return kinds.map((kind) => titles.get(kind) ?? kind).join(", ");
}
