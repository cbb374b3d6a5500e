// The keyboard map, as a dialog on "?".
import { h } from "./dom.js";
import { open } from "./notices.js";
import { PAGES } from "./pages.js";

const KEYS = [
  [["/"], "Find a client, or paste an address"],
  [["?"], "This help"],
  [["t"], "Light or dark"],
  [["Esc"], "Close what is open, or leave a field"],
  [["j"], "Next row of a list"],
  [["k"], "Row before"],
  [["Enter"], "Open the row"],
  [["n"], "Next page of a list"],
  [["p"], "Page before"],
];

/** Show the help. */
export function showHelp() {
  const row = ([keys, text]) => [
    h(
      "dt",
      keys.map((key) => h("kbd", key)).flatMap((key, place) => (place ? [" ", key] : [key])),
    ),
    h("dd", text),
  ];
  const pages = PAGES.map((page) => [["g", page.key], page.title]);
  open("Keyboard", [h("div.help-columns", h("dl.facts", KEYS.map(row)), h("dl.facts", pages.map(row)))], {
    wide: true,
  });
}
