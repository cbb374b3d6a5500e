// The pages of the console: name in the address, title, icon, the key after g, and the file that shows it.

export const SECTIONS = [
  {
    title: "",
    pages: [{ name: "overview", title: "Overview", icon: "overview", key: "o" }],
  },
  {
    title: "Who",
    pages: [
      { name: "clients", title: "Clients", icon: "clients", key: "c" },
      { name: "address", title: "Address explorer", icon: "address", key: "a" },
      { name: "explain", title: "Explain", icon: "explain", key: "e" },
    ],
  },
  {
    title: "Where",
    pages: [
      { name: "servers", title: "Servers and pools", icon: "servers", key: "s" },
      { name: "zones", title: "Zones", icon: "zones", key: "z" },
      { name: "services", title: "Services", icon: "services", key: "v" },
      { name: "site", title: "Tiers and clusters", icon: "site", key: "i" },
    ],
  },
  {
    title: "Running it",
    pages: [
      { name: "keys", title: "Keys", icon: "keys", key: "k" },
      { name: "nodes", title: "Nodes", icon: "nodes", key: "n" },
      { name: "tokens", title: "Tokens", icon: "tokens", key: "t" },
      { name: "audit", title: "Audit", icon: "audit", key: "u" },
    ],
  },
];

export const PAGES = SECTIONS.flatMap((section) => section.pages);
