// @ts-check
// The pages of the console: name in the address, title, icon, the key after g, and the kind that the
// token must be able to read. The file that shows a page is pages/NAME.js.

/** @typedef {{ name: string, title: string, icon: string, key: string, kind?: string }} Page */

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
      { name: "address", kind: "decode", title: "Address explorer", icon: "address", key: "a" },
      { name: "explain", kind: "explain", title: "Explain", icon: "explain", key: "e" },
      { name: "tsig", kind: "tsig", title: "TSIG keys", icon: "lock", key: "y" },
    ],
  },
  {
    title: "Traffic",
    pages: [
      { name: "servers", kind: "pool", title: "Servers and pools", icon: "servers", key: "s" },
      { name: "zones", kind: "zone", title: "Zones", icon: "zones", key: "z" },
      { name: "services", kind: "service", title: "Services", icon: "services", key: "v" },
      { name: "site", kind: "tier", title: "Tiers and clusters", icon: "site", key: "i" },
    ],
  },
  {
    title: "Operations",
    pages: [
      { name: "keys", kind: "key", title: "Keys", icon: "keys", key: "k" },
      { name: "nodes", kind: "status", title: "Nodes", icon: "nodes", key: "n" },
      { name: "tokens", kind: "token", title: "Tokens", icon: "tokens", key: "t" },
      { name: "audit", kind: "audit", title: "Audit", icon: "audit", key: "u" },
    ],
  },
];

export const PAGES = SECTIONS.flatMap((section) => section.pages);
