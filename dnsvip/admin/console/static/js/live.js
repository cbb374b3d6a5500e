// The node as it is now: one poll for the whole console, to which pages listen. It slows down while nobody looks
// and when the server does not answer, and goes on by itself.
import { call } from "./api.js";

const SECONDS = 2;
const SLOWEST = 16;
const KEPT = 300;
const SOON_MS = 150;

const listeners = new Set();
const state = { now: null, times: [], rates: {}, problem: null };
let timer = 0;
let pause = SECONDS;
let running = false;
let asking = false;
let soon = false;

/** What was heard last: {now, times, rates, problem}; `now` is null before the first answer. */
export function live() {
  return state;
}

/** Call `listener` with every news until `signal` is aborted, and at once where something is known. */
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener("abort", () => listeners.delete(listener));
  if (state.now || state.problem) listener(state);
}

/** Begin to ask. */
export function start() {
  if (running) return;
  running = true;
  pause = SECONDS;
  if (!asking) ask();
}

/** Ask no more, and forget. */
export function stop() {
  running = false;
  clearTimeout(timer);
  Object.assign(state, { now: null, times: [], rates: {}, problem: null });
}

/** Ask now, as something was just changed. */
export function hurry() {
  soon = true;
  plan();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) hurry();
});

/** Have the next question asked in time; there is never more than one under way or planned. */
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
  try {
    const after = state.times.at(-1) ?? 0;
    const { data } = await call("GET", `/console/live?after=${after}`);
    if (!running) return;
    take(data);
    pause = SECONDS;
  } catch (problem) {
    if (!running) return;
    state.problem = problem;
    pause = Math.min(pause * 2, SLOWEST);
  }
  listeners.forEach((listener) => listener(state));
}

function take(data) {
  const { series, ...now } = data;
  Object.assign(state, { now, problem: null });
  const before = state.times.length;
  state.times.push(...series.times);
  for (const name of new Set([...Object.keys(state.rates), ...Object.keys(series.rates)])) {
    const column = (state.rates[name] ??= new Array(before).fill(0));
    column.push(...(series.rates[name] ?? new Array(series.times.length).fill(0)).map((rate) => rate ?? 0));
    column.splice(0, column.length - KEPT);
  }
  state.times.splice(0, state.times.length - KEPT);
}
