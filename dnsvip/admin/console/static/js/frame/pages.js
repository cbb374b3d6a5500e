// @ts-check
// The pages of the console: name in the address, title, icon, the key after g, and the kind that the
// token must be able to read, and what it does not see otherwise. The file that shows a page is pages/NAME.js.

import { may } from "../api/rights.js";

/** @typedef {{ name: string, title: string, icon: string, key: string, kind?: string, hides?: string }} Page */

/**
 * What a page is shown with: the rest of its address, its query, a signal that it is left.
 * @typedef {object} Context
 * @property {string[]} parts
 * @property {Record<string, string>} query
 * @property {AbortSignal} signal
 * @property {import("./signin.js").Session} session
 * @property {Page} page
 */

/** @typedef {(view: HTMLElement, context: Context) => any} Show  what a page's file exports as `show` */

/** @type {{ title: string, pages: Page[] }[]} */
export const SECTIONS = [
  {
    title: "",
    pages: [{ name: "overview", title: "Overview", icon: "overview", key: "o" }],
  },
  {
    title: "Clients",
    pages: [
      { name: "clients", kind: "client", title: "Clients", icon: "clients", key: "c" },
      { name: "usage", kind: "client", title: "Usage", icon: "usage", key: "l" },
      {
        name: "address",
        kind: "decode",
        hides: "what addresses carry",
        title: "Address explorer",
        icon: "address",
        key: "a",
      },
      {
        name: "explain",
        kind: "explain",
        hides: "how requesters are identified",
        title: "Explain",
        icon: "explain",
        key: "e",
      },
      { name: "dnstokens", kind: "dns_token", title: "DNS tokens", icon: "dnstokens", key: "m" },
      { name: "tsig", kind: "tsig", hides: "TSIG keys", title: "TSIG keys", icon: "lock", key: "y" },
    ],
  },
  {
    title: "Traffic",
    pages: [
      { name: "servers", kind: "pool", title: "Servers and pools", icon: "servers", key: "s" },
      { name: "zones", kind: "zone", title: "Zones", icon: "zones", key: "z" },
      { name: "services", kind: "service", title: "Services", icon: "services", key: "v" },
      { name: "dnsgroups", kind: "dns_group", title: "DNS groups", icon: "dnsgroups", key: "d" },
      { name: "site", kind: "tier", title: "Tiers and clusters", icon: "site", key: "i" },
    ],
  },
  {
    title: "Operations",
    pages: [
      { name: "keys", kind: "key", hides: "the keys of clusters", title: "Keys", icon: "keys", key: "k" },
      {
        name: "nodes",
        kind: "status",
        hides: "nodes and the status of the site",
        title: "Nodes",
        icon: "nodes",
        key: "n",
      },
      { name: "tokens", kind: "token", title: "Tokens", icon: "tokens", key: "t" },
      { name: "audit", kind: "audit", hides: "the audit", title: "Audit", icon: "audit", key: "u" },
    ],
  },
];

/** @type {Page} reached by the search at the top */
const SEARCH = { name: "search", title: "Search", icon: "search", key: "/" };

/** @type {Page} where an empty site begins */
const START = { name: "start", title: "First steps", icon: "check", key: "1" };

export const PAGES = [...SECTIONS.flatMap((section) => section.pages), SEARCH, START];

/**
 * Whether the session's token may see a page.
 * @param {Page} page
 */
export function isOpen(page) {
  return !page.kind || may("read", page.kind);
}
