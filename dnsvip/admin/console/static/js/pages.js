// The pages of the console: name in the address, title, icon, the key after g, and what one
// must be able to read for it. The file that shows it is pages/NAME.js.

export const SECTIONS = [
  {
    title: "",
    pages: [{ name: "overview", title: "Overview", icon: "overview", key: "o" }],
  },
  {
    title: "Who",
    pages: [
      { name: "clients", kind: "client", title: "Clients", icon: "clients", key: "c" },
      { name: "address", kind: "decode", title: "Address explorer", icon: "address", key: "a" },
      { name: "explain", kind: "explain", title: "Explain", icon: "explain", key: "e" },
      { name: "tsig", kind: "tsig", title: "TSIG keys", icon: "lock", key: "y" },
    ],
  },
  {
    title: "Where",
    pages: [
      { name: "servers", kind: "pool", title: "Servers and pools", icon: "servers", key: "s" },
      { name: "zones", kind: "zone", title: "Zones", icon: "zones", key: "z" },
      { name: "services", kind: "service", title: "Services", icon: "services", key: "v" },
      { name: "site", kind: "tier", title: "Tiers and clusters", icon: "site", key: "i" },
    ],
  },
  {
    title: "Running it",
    pages: [
      { name: "keys", kind: "key", title: "Keys", icon: "keys", key: "k" },
      { name: "nodes", kind: "status", title: "Nodes", icon: "nodes", key: "n" },
      { name: "tokens", kind: "token", title: "Tokens", icon: "tokens", key: "t" },
      { name: "audit", kind: "audit", title: "Audit", icon: "audit", key: "u" },
    ],
  },
];

export const PAGES = SECTIONS.flatMap((section) => section.pages);
