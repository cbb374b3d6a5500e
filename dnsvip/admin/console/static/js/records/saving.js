// @ts-check
// How edited record sets reach the API: shown as differences first, then sent in one PATCH on the state that they were
// made from. Edits of other sets by somebody else do not disturb; those of the same sets are found.
import { call, Problem } from "../api/api.js";
import { h } from "../draw/dom.js";
import { count } from "../draw/format.js";
import { open } from "../draw/notices.js";
import { button } from "../draw/parts.js";
import { bodyOf, differences, isOvertaken, keyOf, pathOf, setOf } from "./sets.js";

/** @typedef {import("./sets.js").RecordSet} RecordSet */
/** @typedef {import("./sets.js").Edit} Edit */

const TRIES = 8;
const MOST = 200;

/** Sets are no longer as they were when they were edited. */
export class Overtaken extends Error {
  constructor() {
    super("Somebody else has changed these record sets meanwhile. Your entries are kept; save again to apply them.");
  }
}

/**
 * The sets of a zone by key, its serial, and what the state is known by.
 * @param {string} zone
 * @param {AbortSignal} [signal]
 */
export async function readSets(zone, signal) {
  const { data, etag } = await call("GET", pathOf(zone), { signal });
  const sets = new Map(/** @type {RecordSet[]} */ (data.rrsets).map((set) => [keyOf(set), set]));
  return { sets, serial: /** @type {number} */ (data.serial), etag };
}

/**
 * Store edits, all or none; raises Problem, and Overtaken where a set is not as it was before.
 * @param {string} zone
 * @param {Edit[]} edits
 */
export async function send(zone, edits) {
  for (let left = TRIES; ; left -= 1) {
    const { sets, etag } = await readSets(zone);
    if (edits.some((edit) => isOvertaken(edit, sets))) throw new Overtaken();
    try {
      await call("PATCH", pathOf(zone), { body: bodyOf(edits), etag });
      return;
    } catch (error) {
      const again = error instanceof Problem && (error.status === 412 || error.status === 409) && left > 1;
      if (!again) throw error;
    }
  }
}

/**
 * Show what edits change; `save` is called when that is confirmed, and the dialog then goes.
 * @param {string} zone
 * @param {Edit[]} edits
 * @param {number} serial
 * @param {() => Promise<unknown>} save
 */
export function review(zone, edits, serial, save) {
  const cancel = button("Cancel", () => dialog.close());
  const yes = button("Save", () => save().finally(() => dialog.close()), { kind: "main-action" });
  yes.dataset["action"] = "confirm";
  const dialog = open(
    `Save ${count(edits.length, "change")} to ${zone}?`,
    [
      h("div.review", { tabindex: "0", role: "region", "aria-label": "Changes" }, diffOf(edits)),
      h("p.soft", `The zone's serial, now ${serial}, is raised with them.`),
      h("div.buttons", cancel, yes),
    ],
    { wide: true },
  );
  yes.focus();
}

/**
 * What edits remove and add, set by set.
 * @param {Edit[]} edits
 */
export function diffOf(edits) {
  const shown = edits.slice(0, MOST).map((edit) => {
    const { name, type } = setOf(edit);
    const { removed, added } = differences(edit);
    return h("div.change", h("strong.mono", `${name} ${type}`), h("ul.mono", cut(removed, "del"), cut(added, "ins")));
  });
  return [shown, edits.length > MOST ? h("p.faint", `and ${edits.length - MOST} more`) : null];
}

/**
 * @param {string[]} lines
 * @param {"del" | "ins"} kind
 */
function cut(lines, kind) {
  const sign = kind === "del" ? "−" : "+";
  const more = lines.length - MOST;
  return [
    ...lines.slice(0, MOST).map((line) => h("li", h("span.sign", { "aria-hidden": "true" }, sign), h(kind, line))),
    more > 0 ? h("li.faint", `${sign} ${more} more`) : null,
  ];
}
