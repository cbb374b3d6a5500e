// @ts-check
// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat("en");
const RATE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** @param {number} number */
export const whole = (number) => WHOLE.format(number);
/** @param {number} number */
export const rate = (number) => (number >= 10000 ? SHORT.format(number) : RATE.format(number));
/** A rate in bits per second. @param {number} number */
export function bits(number) {
  const step = number < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(number) / 3));
  return `${RATE.format(number / 1000 ** step)} ${["", "k", "M", "G", "T"][step]}bit/s`;
}
/** @param {number | null | undefined} seconds */
export const moment = (seconds) => (seconds ? MOMENT.format(seconds * 1000) : "");
/** @param {number} seconds */
export const clock = (seconds) => CLOCK.format(seconds * 1000);

/** @type {[number, string][]} */
const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

const BIT_UNITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];

/** Seconds in at most two units: "3 h 20 min". @param {number} seconds */
export function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of UNITS) {
    const number = Math.floor(left / size);
    left -= number * size;
    if (number) parts.push(`${number} ${unit}`);
    if (parts.length === 2 || (parts.length && !number)) break;
  }
  return parts.join(" ") || "0 s";
}

/** How long ago a unix time is. @param {number} seconds */
export function ago(seconds, now = Date.now() / 1000) {
  const gone = now - seconds;
  return gone < 3 ? "just now" : `${duration(gone)} ago`;
}

/**
 * @param {number} number
 * @param {string} one
 */
export const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

/** Bytes per second as bits per second: "12.5 Mbit/s". @param {number} bytes */
export function bitrate(bytes) {
  const bits = 8 * bytes;
  const step = Math.min(BIT_UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(bits, 1)) / 3)));
  return `${RATE.format(bits / 1000 ** step)} ${BIT_UNITS[step]}`;
}

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes in decimal units: "1.2 GB". @param {number} number */
export function bytes(number) {
  const step = Math.min(BYTE_UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(number, 1)) / 3)));
  return `${RATE.format(number / 1000 ** step)} ${BYTE_UNITS[step]}`;
}
