// @ts-check
// Record sets as values: names, what differs between two states of a set, what the API is sent for it, and which set and
// record each of its errors is about.
import { contentFault } from "./types.js";

/** @typedef {{ content: string, disabled: boolean }} ZoneRecord  a disabled one is kept and not served */
/** @typedef {{ name: string, type: string, ttl: number, records: ZoneRecord[], comments: object[] }} RecordSet */

/** @typedef {{ before: RecordSet | null, after: RecordSet | null }} Edit  null: there is no such set */

/** @typedef {{ key: string, record: number | null, message: string }} Fault  of a set, or of one of its records */
/** @typedef {{ where: string, message: string }} Wrong  an error as `form.show` takes it */

const MOST_TTL = 2 ** 31 - 1;

/** Types that stand first at their name. */
const FIRST = ["SOA", "NS"];

/** @param {{ name: string, type: string }} set */
export function keyOf({ name, type }) {
  return `${name} ${type}`;
}

/**
 * The set that an edit is about.
 * @param {Edit} edit
 */
export function setOf({ before, after }) {
  return /** @type {RecordSet} */ (after ?? before);
}

/** @param {string} zone */
export function apexOf(zone) {
  return zone === "." ? "." : `${zone.replace(/\.$/, "")}.`;
}

/**
 * The path of a zone's record sets in the API; what is no letter, digit, dot or hyphen is written as =XX there.
 * @param {string} zone
 */
export function pathOf(zone) {
  const odd = (/** @type {string} */ one) => `=${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  const id = zone === "." ? "=2E" : apexOf(zone).replace(/[^A-Za-z0-9.-]/g, odd);
  return `servers/localhost/zones/${encodeURIComponent(id)}`;
}

/**
 * A name as it is in a zone file, absolute: below the zone unless it ends in a dot; @ is the zone.
 * @param {string} zone
 * @param {string} name
 */
export function absolute(zone, name) {
  const apex = apexOf(zone);
  const text = name.trim().toLowerCase();
  if (text === "@" || `${text}.` === apex) return apex;
  if (text.endsWith(".")) return text;
  if (apex === "." || `${text}.`.endsWith(`.${apex}`)) return `${text}.`;
  return `${text}.${apex}`;
}

/**
 * The part of a name below the zone, and the rest: ["www", ".example.test"].
 * @param {string} zone
 * @param {string} name
 * @returns {[string, string]}
 */
export function parted(zone, name) {
  const apex = apexOf(zone);
  const plain = name === "." ? name : name.slice(0, -1);
  if (apex === "." || name === apex || !name.endsWith(`.${apex}`)) return [plain, ""];
  return [name.slice(0, -apex.length - 1), `.${apex.slice(0, -1)}`];
}

/**
 * What sets are sorted by: the zone first, what is below a name behind it.
 * @param {{ name: string, type: string }} set
 */
export function orderOf({ name, type }) {
  const first = FIRST.indexOf(type);
  return `${name.split(".").reverse().join("\u0001")}\u0000${first < 0 ? FIRST.length : first}${type}`;
}

/** @param {ZoneRecord} record */
function shown({ content, disabled }) {
  return disabled ? `${content} (disabled)` : content;
}

/**
 * Whether two states of a set are the same to who edits records; their order makes no difference.
 * @param {RecordSet | null} one
 * @param {RecordSet | null} other
 */
export function same(one, other) {
  const plain = (/** @type {RecordSet | null} */ set) =>
    set ? JSON.stringify([set.ttl, ...set.records.map(shown).sort()]) : "";
  return plain(one) === plain(other);
}

/**
 * Whether an edit was made from another state than this one, which is not what it wants either.
 * @param {Edit} edit
 * @param {Map<string, RecordSet>} sets
 */
export function isOvertaken(edit, sets) {
  const now = sets.get(keyOf(setOf(edit))) ?? null;
  return !same(now, edit.before) && !same(now, edit.after);
}

/**
 * What an edit removes and adds, each a line.
 * @param {Edit} edit
 */
export function differences({ before, after }) {
  const old = new Set(before?.records.map(shown));
  const now = new Set(after?.records.map(shown));
  const ttl = before && after && before.ttl !== after.ttl;
  return {
    removed: [...(ttl ? [`TTL ${before.ttl}`] : []), ...[...old].filter((line) => !now.has(line))],
    added: [...(ttl ? [`TTL ${after.ttl}`] : []), ...[...now].filter((line) => !old.has(line))],
  };
}

/**
 * The body of a PATCH that makes edits. Comments stay as they are, but for those of a set that comes back.
 * @param {Edit[]} edits
 */
export function bodyOf(edits) {
  return {
    rrsets: edits.map(({ before, after }) => {
      const { name, type } = setOf({ before, after });
      if (!after) return { name, type, changetype: "DELETE" };
      const { ttl, records, comments } = after;
      return { name, type, ttl, records, changetype: "REPLACE", ...(before ? {} : { comments }) };
    }),
  };
}

/**
 * All that the console finds wrong with a set that has been entered.
 * @param {string} zone
 * @param {RecordSet} set
 * @returns {Wrong[]}
 */
export function wrongs(zone, { name, type, ttl, records }) {
  /** @type {Wrong[]} */
  const all = [];
  const say = (/** @type {string} */ where, /** @type {string | null} */ message) => {
    if (message) all.push({ where, message });
  };
  say("name", nameFault(zone, name));
  if (!Number.isInteger(ttl) || ttl < 0 || ttl > MOST_TTL) say("ttl", `must be a whole number from 0 to ${MOST_TTL}`);
  const seen = new Set();
  for (const [place, { content }] of records.entries()) {
    say(`records.${place}`, contentFault(type, content) ?? (seen.has(content) ? "is there twice" : null));
    seen.add(content);
  }
  if (!records.length) say("records", "A set has one record at least; to have none, remove the set.");
  return all;
}

/**
 * @param {string} zone
 * @param {string} name  absolute
 */
function nameFault(zone, name) {
  const apex = apexOf(zone);
  if (apex !== "." && name !== apex && !name.endsWith(`.${apex}`)) return `must be ${apex} or below it`;
  if (/\s/.test(name)) return "has a space in it";
  if (/^\.|\.\./.test(name) && name !== ".") return "has nothing between two dots";
  if (/[^\x00-\x7f]/.test(name)) return "has letters that are not ASCII; write them as xn-- or as \\DDD";
  return null;
}

/**
 * The API's errors by the edits they are about, and the messages that are about none of them.
 * @param {string} zone
 * @param {Edit[]} edits
 * @param {Wrong[]} errors
 */
export function faultsOf(zone, edits, errors) {
  /** @type {Fault[]} */
  const faults = [];
  /** @type {string[]} */
  const others = [];
  for (const { where, message } of errors) {
    const set = edits.map(setOf).find((each) => isAt(where, `zone.${zone}.${each.name}.${each.type}`));
    const sent = new RegExp("^rrsets\\.(\\d+)\\b").exec(where.slice(`zone.${zone}.`.length));
    const about = set ?? (sent ? edits.map(setOf)[Number(sent[1])] : undefined);
    const record = /\.records\.(\d+)/.exec(where);
    if (about) faults.push({ key: keyOf(about), record: record ? Number(record[1]) : null, message });
    else others.push(message);
  }
  return { faults, others };
}

/**
 * @param {string} where
 * @param {string} path
 */
function isAt(where, path) {
  return where === path || where.startsWith(`${path}.`);
}
