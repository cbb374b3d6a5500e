// @ts-check
// What is known of a zone's record sets and what has been entered over it, without anything that is drawn.
import { isOvertaken, keyOf, orderOf, same, setOf } from "./sets.js";

/** @typedef {import("./sets.js").RecordSet} RecordSet */
/** @typedef {import("./sets.js").Edit} Edit */
/** @typedef {import("./sets.js").Fault} Fault */
/** @typedef {{ set: RecordSet, edit: Edit | null, faults: Fault[] }} Row  a set as it will be; a removed one as it was */

/**
 * What is known and entered of a zone. `faults` are those of the last attempt to save.
 * @typedef {object} State
 * @property {Map<string, RecordSet>} sets
 * @property {Map<string, Edit>} edits
 * @property {Fault[]} faults
 * @property {number} serial
 * @property {{ find: string, type: string, page: number }} wanted
 */

/**
 * The sets to show, as they will be, in their order.
 * @param {State} state
 * @returns {Row[]}
 */
export function matching({ sets, edits, faults, wanted }) {
  const fresh = [...edits].filter(([key]) => !sets.has(key)).map(([, edit]) => setOf(edit));
  const rows = [...sets.values(), ...fresh].map((stored) => {
    const edit = edits.get(keyOf(stored)) ?? null;
    return { set: edit?.after ?? stored, edit, faults: faults.filter(({ key }) => key === keyOf(stored)) };
  });
  return rows
    .filter(({ set }) => fits(set, wanted))
    .map((row) => ({ row, order: orderOf(row.set) }))
    .sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0))
    .map(({ row }) => row);
}

/**
 * @param {RecordSet} set
 * @param {{ find: string, type: string }} wanted
 */
function fits({ name, type, records }, wanted) {
  if (wanted.type && wanted.type !== type) return false;
  return (
    !wanted.find || name.includes(wanted.find) || records.some((one) => one.content.toLowerCase().includes(wanted.find))
  );
}

/**
 * @param {State} state
 * @param {string} key
 */
export function isShown({ edits, sets, wanted }, key) {
  const set = edits.get(key)?.after ?? sets.get(key);
  return set !== undefined && fits(set, wanted);
}

/**
 * All sets, whatever is searched for.
 * @param {State} state
 */
export function everything(state) {
  return matching({ ...state, wanted: { find: "", type: "", page: 0 } });
}

/**
 * Enter what a set is to be; null: removed. Its faults are of the past then.
 * @param {State} state
 * @param {string} key
 * @param {RecordSet | null} after
 */
export function enter(state, key, after) {
  const before = state.edits.get(key)?.before ?? state.sets.get(key) ?? null;
  if (same(before, after)) state.edits.delete(key);
  else state.edits.set(key, { before, after });
  state.faults = state.faults.filter((fault) => fault.key !== key);
}

/**
 * Go on from another state of the zone; what has been entered stays. Returns what somebody else has changed of that.
 * @param {State} state
 * @param {Map<string, RecordSet>} sets
 * @param {number} serial
 * @returns {Edit[]}
 */
export function take(state, sets, serial) {
  const theirs = [...state.edits.values()]
    .filter((edit) => isOvertaken(edit, sets))
    .map((edit) => ({ before: edit.before, after: sets.get(keyOf(setOf(edit))) ?? null }));
  Object.assign(state, { sets, serial });
  for (const [key, { after }] of [...state.edits]) {
    const now = sets.get(key) ?? null;
    if (same(now, after)) state.edits.delete(key);
    else state.edits.set(key, { before: now, after });
  }
  return theirs;
}
