// @ts-check
// The state of the node: one poll for the whole console, to which pages listen. It slows down while the page is hidden
// or the server does not answer, and resumes by itself.
import { call } from "./api.js";

const SECONDS = 1;
const SLOWEST = 16;
const KEPT = 300;
const SOON_MS = 150;

/**
 * A rate per second, null where it is not known: its source was away.
 * @typedef {number | null} Rate
 */

/**
 * What was heard last; `now` is null before the first answer. Rates are by counter, at `times` (unix). `heard` says of each
 * source (dns, dispatcher), at which of them there was one.
 * @typedef {{ now: any, times: number[], rates: Record<string, Rate[]>, heard: Record<string, boolean[]>, problem: any }} State
 */

/**
 * What rates are of: a node, or the site (""), over a span of `seconds`.
 * @typedef {{ node: string, span: string, seconds: number }} Choice
 */

/** The spans that the server keeps, by name, in seconds. @type {Record<string, number>} */
export const SPANS = { "10min": 600, "1h": 3600, "24h": 86400 };
const WHOLE = { node: "", span: "10min" };

/** @type {Set<(heard: State) => unknown>} */
const listeners = new Set();

/** @type {State} */
const state = { now: null, times: [], rates: {}, heard: {}, problem: null };
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let chosen = WHOLE;
let pause = SECONDS;
let running = false;
let under = new AbortController();
let asking = false;
let soon = false;

/** What was heard last. */
export function live() {
  return state;
}

/**
 * Call `listener` with every answer until `signal` is aborted, and at once where there has been one.
 * @param {(heard: State) => unknown} listener
 * @param {AbortSignal} [signal]
 */
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener("abort", () => listeners.delete(listener));
  if (state.now || state.problem) listener(state);
}

/** Begin to ask. */
export function start() {
  if (running) return;
  running = true;
  under = new AbortController();
  pause = SECONDS;
  if (!asking) ask();
}

/** Ask no more, and forget. */
export function stop() {
  running = false;
  under.abort();
  clearTimeout(timer);
  chosen = WHOLE;
  Object.assign(state, { now: null, times: [], rates: {}, heard: {}, problem: null });
}

/** What rates are of now. @returns {Choice} */
export function choice() {
  return { ...chosen, seconds: SPANS[chosen.span] ?? 600 };
}

/**
 * Have rates of another node or span from now on; the site's last minutes without either.
 * @param {{ node?: string, span?: string }} [wanted]
 */
export function choose({ node = "", span = "" } = {}) {
  const next = { node, span: span in SPANS ? span : WHOLE.span };
  if (next.node === chosen.node && next.span === chosen.span) return;
  chosen = next;
  Object.assign(state, { times: [], rates: {}, heard: {} });
  hurry();
}

/** Ask now, because something was just changed. */
export function hurry() {
  soon = true;
  plan();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) hurry();
});

/** Plan the next poll; there is never more than one planned or under way. */
function plan() {
  clearTimeout(timer);
  if (running && !asking) timer = setTimeout(ask, soon ? SOON_MS : 1000 * (document.hidden ? SLOWEST : pause));
}

async function ask() {
  asking = true;
  soon = false;
  await hear();
  asking = false;
  plan();
}

async function hear() {
  const { signal } = under;
  try {
    const asked = chosen;
    const query = new URLSearchParams({ after: String(state.times.at(-1) ?? 0), ...asked });
    const { data } = await call("GET", `/console/live?${query}`, { signal });
    if (signal.aborted) return;
    if (asked === chosen) take(data);
    pause = SECONDS;
  } catch (problem) {
    if (signal.aborted) return;
    state.problem = problem;
    pause = Math.min(pause * 2, SLOWEST);
  }
  listeners.forEach((listener) => listener(state));
}

/** @param {any} data */
function take(data) {
  const { series, ...now } = data;
  Object.assign(state, { now, problem: null });
  const before = state.times.length;
  state.times.push(...series.times);
  for (const source of new Set([...Object.keys(state.heard), ...Object.keys(series.heard)])) {
    const column = (state.heard[source] ??= Array.from({ length: before }, () => false));
    column.push(...(series.heard[source] ?? series.times.map(() => false)));
  }
  for (const name of new Set([...Object.keys(state.rates), ...Object.keys(series.rates)])) {
    const heard = state.heard[name.split(".")[0] ?? ""] ?? [];
    const known = (/** @type {number} */ place, /** @type {number | null} */ rate) =>
      heard[place] ? (rate ?? 0) : null;
    const column = (state.rates[name] ??= Array.from({ length: before }, (_, place) => known(place, 0)));
    const rates = series.rates[name] ?? series.times.map(() => null);
    column.push(
      ...rates.map((/** @type {number | null} */ rate, /** @type {number} */ place) => known(before + place, rate)),
    );
  }
  for (const column of [state.times, ...Object.values(state.rates), ...Object.values(state.heard)])
    column.splice(0, column.length - KEPT);
}
