// @ts-check
// Line icons on a 24 x 24 field, drawn by hand; decorative, so hidden from screen readers.
import { s } from "./dom.js";

/** @type {Record<string, string>} */
const PATHS = {
  overview: "M4 19V9m5.3 10V5m5.4 14v-7M20 19V8",
  clients:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm-6 9c.4-3.6 2.8-5.5 6-5.5s5.600 1.900 6 5.500M16 4.400a3.500 3.500 0 0 1 0 6.200M18 14.900c1.800.8 2.800 2.500 3 5.100",
  address: "M3 7h18v10H3zM8 7v10M13 7v10M17 7v10",
  explain:
    "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16Zm-2.300-9.800a2.300 2.300 0 1 1 3.300 2.100c-.7.35-1 .8-1 1.500M12 16.500v.1",
  keys: "M14.500 10.500a4 4 0 1 0-3.600 3.960L13 12.500h2V11h1.500V9.500M8.500 9v.1M12 14l-1 1M15 4l5 5-2 2",
  servers: "M4 5h16v5H4zM4 14h16v5H4zM7.500 7.500h.1M7.500 16.500h.1",
  zones:
    "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM3.500 9.500h17M3.500 14.500h17M12 3c-5 5.500-5 12.500 0 18 5-5.500 5-12.500 0-18",
  services: "M5 12h5m4 0h5M12 5v5m0 4v5M12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  dnsgroups: "M4 4h7v6H4zM13 14h7v6h-7zM7.500 10v7H13M11 7h5.500v7",
  site: "M4 6h10M18 6h2M4 12h2m4 0h10M4 18h8m4 0h4M16 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM8 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4Zm6 6a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  dnstokens: "M4 6h16v12H4zM8 15v-2.500M12 15V9M16 15v-4M4 6l8 4 8-4",
  tokens: "M7 15a4 4 0 1 1 3.900-5H21v3h-2v2h-3v-2h-5.100A4 4 0 0 1 7 15Zm0-4v.1",
  usage: "M5 20V10M12 20V4M19 20v-7M3 20h18",
  audit: "M6 3h9l4 4v14H6zM14.500 3v4.500H19M9 12h7M9 16h5",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 0 1 7 0v3M12 15v1.500",
  nodes:
    "M12 8a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM5.500 20a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5Zm13 0a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM10.800 7.700 6.700 15.200m6.500-7.500 4.100 7.500M8 17.500h8",
  search: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13Zm4.800-1.700L20 20",
  menu: "M4 7h16M4 12h16M4 17h16",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm0-13v2m0 14v2M3 12h2m14 0h2M5.600 5.600 7 7m10 10 1.400 1.400M18.400 5.600 17 7M7 17l-1.400 1.400",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500Z",
  out: "M10 4H5v16h5M14 8l4 4-4 4m4-4H9",
  help: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16Zm-2.300-9.800a2.300 2.300 0 1 1 3.300 2.100c-.7.35-1 .8-1 1.500M12 16.500v.1",
  warn: "M12 4 2.800 19.500h18.400zM12 10v4.500M12 17v.1",
  plus: "M12 5v14M5 12h14",
  cross: "M6 6l12 12M18 6 6 18",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  up: "M6 14l6-6 6 6",
  down: "M6 10l6 6 6-6",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.500l4.500 4.500L19 7.500",
  rotate: "M20 5v5h-5M19.400 10A8 8 0 1 0 20 13.500",
  download: "M12 4v11m-4.500-4 4.500 4.500 4.500-4.500M4 20h16",
  trash: "M4 7h16M9 7V4h6v3M6.500 7l1 13h9l1-13",
  edit: "M4 20l1-4.500L16.500 4 20 7.500 8.500 19z",
  inbox: "M4 13l3-8h10l3 8v6H4zM4 13h4.500l1.500 2.500h4l1.500-2.500H20",
};

/**
 * An icon by name; `size` in pixels.
 * @param {string} name
 */
export function icon(name, size = 18) {
  const path = s("path", {
    d: PATHS[name],
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.7,
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
  });
  return s("svg", { viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true", focusable: "false" }, path);
}
