// @ts-check
// The keyboard map, as a dialog on "?".
import { h } from "../draw/dom.js";
import { open } from "../draw/notices.js";
import { isOpen, PAGES } from "./pages.js";

/** @typedef {[keys: string[], text: string]} Entry */

/** @type {Entry[]} */
const KEYS = [
  [["/"], "Find anything: a name, an address, a record"],
  [["↓"], "Next of what is found; Enter opens it"],
  [["?"], "This help"],
  [["t"], "Switch between light and dark"],
  [["Esc"], "Close what is open, or leave a field"],
  [["j"], "Next row of a list"],
  [["k"], "Previous row"],
  [["Enter"], "Open the row"],
  [["n"], "Next page of a list"],
  [["p"], "Previous page"],
];

/** Show the help. */
export function showHelp() {
  const row = (/** @type {Entry} */ [keys, text]) => [
    h(
      "dt",
      keys.map((key) => h("kbd", key)).flatMap((key, place) => (place ? [" ", key] : [key])),
    ),
    h("dd", text),
  ];
  const pages = PAGES.filter(isOpen).map((page) => /** @type {Entry} */ ([["g", page.key], page.title]));
  open("Keyboard", [h("div.help-columns", h("dl.facts", KEYS.map(row)), h("dl.facts", pages.map(row)))], {
    wide: true,
  });
}
