// @ts-check
// Times as people read them: how long ago, the exact moment beside it, by the clock of this browser or by UTC.
import { h } from "./dom.js";
import { ago } from "./format.js";

const KEY = "dnsvip-times";
const AGAIN_MS = 20_000;
const DAY = 86_400;

/** @typedef {"local" | "utc"} Zone */

let chosen = stored();

/** Whose clock times are shown by. @returns {Zone} */
export function zone() {
  return chosen;
}

/** @returns {Zone} */
function stored() {
  try {
    return localStorage.getItem(KEY) === "utc" ? "utc" : "local";
  } catch {
    return "local"; // storage may be forbidden
  }
}

/**
 * @param {number} seconds
 * @param {Intl.DateTimeFormatOptions} options
 * @param {Zone} by
 */
function formatted(seconds, options, by = zone()) {
  const more = by === "utc" ? { timeZone: "UTC" } : {};
  return new Intl.DateTimeFormat("en-GB", { ...options, ...more }).format(seconds * 1000);
}

/**
 * The exact moment, with its zone: "24 Nov 2026, 08:00:00 UTC".
 * @param {number} seconds
 */
export function exact(seconds, by = zone()) {
  /** @type {Intl.DateTimeFormatOptions} */
  const options = {
    day: "numeric",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    timeZoneName: "short",
  };
  return formatted(seconds, options, by);
}

/**
 * What a list says of a moment: how long ago within a day, else (later, or in the future) the time of day.
 * @param {number} seconds
 */
function short(seconds) {
  const gone = Date.now() / 1000 - seconds;
  return gone >= 0 && gone < DAY ? ago(seconds) : formatted(seconds, { hour: "2-digit", minute: "2-digit" });
}

/**
 * A moment in a list; the exact one, by both clocks, is shown by the pointer and to screen readers.
 * @param {number} seconds
 */
export function when(seconds) {
  const both = [...new Set([exact(seconds, zone()), exact(seconds, "utc")])].join("\n");
  return h(
    "time",
    { datetime: new Date(seconds * 1000).toISOString(), title: both, dataset: { at: String(seconds) } },
    short(seconds),
  );
}

/**
 * The day of a moment: "Today", "Yesterday", "Tuesday, 24 November 2026".
 * @param {number} seconds
 */
export function day(seconds) {
  /** @type {Intl.DateTimeFormatOptions} */
  const options = { weekday: "long", day: "numeric", month: "long", year: "numeric" };
  const now = Date.now() / 1000;
  const name = formatted(seconds, options);
  if (name === formatted(now, options)) return "Today";
  return name === formatted(now - DAY, options) ? "Yesterday" : name;
}

/**
 * The unix seconds of what a control for date and time holds; undefined where it holds nothing.
 * @param {string} text
 */
export function parsed(text) {
  const moment = Date.parse(text && zone() === "utc" ? `${text}Z` : text);
  return Number.isNaN(moment) ? undefined : moment / 1000;
}

/**
 * A choice of the clock; `changed` is called when it was made.
 * @param {() => unknown} changed
 */
export function zoneSwitch(changed) {
  const choose = (/** @type {Zone} */ wanted) => {
    chosen = wanted;
    try {
      localStorage.setItem(KEY, wanted);
    } catch {
      // it holds for this page then
    }
    paint();
    changed();
  };
  const buttons = /** @type {[Zone, string][]} */ ([
    ["local", "Local time"],
    ["utc", "UTC"],
  ]).map(([value, text]) => ({
    value,
    element: h("button.chip", { type: "button", onclick: () => choose(value) }, text),
  }));
  const paint = () =>
    buttons.forEach(({ value, element }) => element.setAttribute("aria-pressed", String(zone() === value)));
  paint();
  return h(
    "div.row",
    { role: "group", "aria-label": "Clock" },
    buttons.map(({ element }) => element),
  );
}

/** Write anew how long ago things were, every now and then, until `signal` is aborted. @param {AbortSignal} signal */
export function keepFresh(signal) {
  const timer = setInterval(() => {
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("time[data-at]")))
      each.textContent = short(Number(each.dataset["at"]));
  }, AGAIN_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}
