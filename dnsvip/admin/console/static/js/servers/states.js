// @ts-check
// How many servers are in each state: a bar with a part for each, and their numbers in words.
import { h } from "../draw/dom.js";
import { whole } from "../draw/format.js";

/** The states as the server counts them, what they mean to an operator, and their colours. @type {[string, string][]} */
const STATES = [
  ["failing", "bad"],
  ["healthy", "good"],
  ["draining", "warn"],
  ["maintenance", "info"],
  ["down", "off"],
  ["unchecked", "plain"],
];

/**
 * The states that there are servers in, the worst first.
 * @param {Record<string, number>} counts
 */
function present(counts) {
  return STATES.filter(([state]) => counts[state]).map(([state, kind]) => ({
    state,
    kind,
    number: counts[state] ?? 0,
  }));
}

/**
 * How many servers there are.
 * @param {Record<string, number>} counts
 */
export function allServers(counts) {
  return Object.values(counts).reduce((sum, number) => sum + number, 0);
}

/**
 * The bar and its legend.
 * @param {Record<string, number>} counts
 */
export function serverStates(counts) {
  const shown = present(counts);
  const said = shown.map(({ state, number }) => `${whole(number)} ${state}`).join(", ");
  return [
    h(
      "div.states-bar",
      { role: "img", "aria-label": `Servers: ${said}` },
      shown.map(({ state, kind, number }) =>
        h("span", { class: kind, style: { flexGrow: String(number) }, dataset: { key: state } }),
      ),
    ),
    h(
      "ul.states",
      shown.map(({ state, kind, number }) =>
        h("li", { dataset: { key: state, state } }, h("span.dot", { class: kind }), h("b", whole(number)), state),
      ),
    ),
  ];
}
