// @ts-check
// The record sets of a zone as a table: filtered, by pages, edited row by row. Edits wait in the page until they have
// been reviewed and are saved together.
import { Problem } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { choice, text } from "../forms/form.js";
import { count, whole } from "../draw/format.js";
import { keys } from "../lists/lists.js";
import { done } from "../draw/notices.js";
import { button, card, empty, filled, tag } from "../draw/parts.js";
import { reconcile } from "../draw/reconcile.js";
import { editSet } from "./form.js";
import { diffOf, Overtaken, readSets, review, send } from "./saving.js";
import { faultsOf, keyOf, parted, setOf } from "./sets.js";
import { enter, everything, isShown, matching, take } from "./state.js";
import { note } from "../frame/router.js";
import { table } from "../lists/table.js";

/** @typedef {import("./sets.js").RecordSet} RecordSet */
/** @typedef {import("./sets.js").Edit} Edit */
/** @typedef {import("./sets.js").Fault} Fault */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Row} Row */

const PAGE = 50;
const SHOWN = 4;
const WAIT_MS = 150;

/**
 * The card of a zone's record sets; `read` shows them anew, and what has been entered stays. `saved` is called when they
 * have changed, and is to call `read`.
 * @param {string} zone
 * @param {{ context: import("../frame/pages.js").Context, readonly: boolean, saved: () => Promise<unknown> }} how
 */
export function recordTable(zone, { context, readonly, saved }) {
  const { query, signal } = context;
  /** @type {State} */
  const state = {
    sets: new Map(),
    edits: new Map(),
    faults: [],
    serial: 0,
    wanted: { find: (query["find"] ?? "").toLowerCase(), type: query["type"] ?? "", page: 0 },
  };
  const list = h("div");
  const trouble = h("div.form-error.record-faults", { role: "alert", hidden: true, tabindex: "-1" });
  const meanwhile = h("div.meanwhile.record-faults", { role: "status", hidden: true });
  const bar = h("div.row.spread.pending", { hidden: true });
  const types = h("div.filter-type");
  const total = h("span.faint", { role: "status" });
  const turn = (/** @type {number} */ by) => {
    state.wanted.page += by;
    redraw();
  };
  const back = button("Back", () => turn(-1), { name: "left", small: true });
  const on = button("Next", () => turn(1), { small: true });
  const foot = h("div.row.spread.list-foot", total, h("div.row", back, on));

  const redraw = () => reconcile(list, draw());
  const draw = () => {
    const rows = matching(state);
    const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
    const page = (state.wanted.page = Math.max(0, Math.min(state.wanted.page, last)));
    back.disabled = page === 0;
    on.disabled = page === last;
    back.hidden = on.hidden = last === 0;
    const part = last ? `, page ${page + 1} of ${last + 1}` : "";
    total.textContent = `${count(rows.length, "record set")}${part}`;
    drawBar();
    if (!rows.length) return empty(state.sets.size ? "Nothing matches" : "No records");
    const shown = rows.slice(page * PAGE, (page + 1) * PAGE);
    return table(`Record sets of ${zone}`, columns(), shown, { key: ({ set }) => keyOf(set) });
  };

  /** @returns {import("../lists/table.js").Column<Row>[]} */
  const columns = () => [
    { title: "Name", cell: (row) => nameCell(row) },
    { title: "Type", cell: ({ set }) => h("span.mono", set.type) },
    { title: "TTL", number: true, cell: ({ set }) => whole(set.ttl) },
    { title: "Records", cell: recordsCell },
    ...(readonly ? [] : [{ title: "", cell: actions }]),
  ];

  const nameCell = (/** @type {Row} */ row) => {
    const [own, rest] = parted(zone, row.set.name);
    const shown = h("span.owner", own, h("span.faint", rest));
    const label = `Edit ${keyOf(row.set)}`;
    const leads = !readonly && row.edit?.after !== null;
    return leads
      ? h("button.lead.plain", { type: "button", "aria-label": label, onclick: () => edit(row) }, shown)
      : h("strong", shown);
  };

  const actions = (/** @type {Row} */ row) => {
    const of = keyOf(row.set);
    const small = { small: true, kind: "quiet" };
    const undo = button("", () => drop([of]), { ...small, name: "rotate", label: `Undo the change of ${of}` });
    const remove = button("", () => stage(row, null), { ...small, name: "trash", label: `Remove ${of}` });
    return h(
      "div.row.record-actions",
      row.edit ? undo : null,
      row.edit?.after === null || row.set.type === "SOA" ? null : remove,
    );
  };

  const edit = (/** @type {Row} */ row) =>
    editSet(zone, row.set, {
      apply: (set) => stage(row, set),
      isTaken: () => false,
      faults: row.faults.map(({ record, message }) => ({
        where: record === null ? "records" : `records.${record}`,
        message,
      })),
    });

  const add = () =>
    editSet(zone, null, {
      apply: (set) => stage({ set, edit: state.edits.get(keyOf(set)) ?? null, faults: [] }, set),
      isTaken: (key) => (state.edits.get(key)?.after ?? (state.edits.has(key) ? null : state.sets.get(key))) != null,
    });

  const stage = (/** @type {Row} */ { set }, /** @type {RecordSet | null} */ after) => {
    const key = keyOf(set);
    enter(state, key, after);
    if (!state.faults.length) trouble.hidden = true;
    if (after && !isShown(state, key)) {
      search.value = state.wanted.find = "";
      state.wanted.type = "";
      drawTypes();
    }
    const place = after ? matching(state).findIndex((row) => keyOf(row.set) === key) : -1;
    if (place >= 0) state.wanted.page = Math.floor(place / PAGE);
    redraw();
  };

  const drop = (/** @type {Iterable<string>} */ some) => {
    const gone = new Set(some);
    for (const key of gone) state.edits.delete(key);
    state.faults = state.faults.filter(({ key }) => !gone.has(key));
    if (!state.faults.length) trouble.hidden = true;
    if (!state.edits.size) meanwhile.hidden = true;
    redraw();
  };

  const drawBar = () => {
    bar.hidden = !state.edits.size;
    const text = `${count(state.edits.size, "change")} not saved yet`;
    const discard = button("Discard", () => drop([...state.edits.keys()]));
    const look = () => review(zone, [...state.edits.values()], state.serial, save);
    const go = button("Review and save", look, { kind: "main-action" });
    reconcile(bar, h("span", { role: "status" }, text), h("div.row", discard, go));
  };

  const drawTypes = () => {
    const some = [...new Set(everything(state).map(({ set }) => set.type))].sort();
    /** @type {[string, string][]} */
    const options = [["", "Any type"], ...some.map((each) => /** @type {[string, string]} */ ([each, each]))];
    const chosen = choice(state.wanted.type, options, { "aria-label": "Type" });
    chosen.addEventListener("change", () => find({ type: chosen.value }));
    fill(types, chosen);
  };

  const find = (/** @type {{ find?: string, type?: string }} */ more) => {
    Object.assign(state.wanted, more, { page: 0 });
    note(["zones", zone], { find: state.wanted.find, type: state.wanted.type });
    redraw();
  };

  const save = async () => {
    const edits = [...state.edits.values()];
    trouble.hidden = true;
    try {
      await send(zone, edits);
    } catch (error) {
      if (error instanceof Overtaken) return await read();
      return refused(edits, /** @type {Problem} */ (error));
    }
    drop(state.edits.keys());
    await saved();
    const back = edits.map(({ before, after }) => ({
      before: state.sets.get(keyOf(setOf({ before, after }))) ?? null,
      after: before,
    }));
    done(`${count(edits.length, "record set")} of ${zone} changed`, async () => {
      await send(zone, back).catch((error) => {
        throw error instanceof Overtaken ? new Error("Not undone: these have been changed since.") : error;
      });
      await saved();
    });
  };

  const refused = (/** @type {Edit[]} */ edits, /** @type {Problem} */ problem) => {
    const { faults, others } = faultsOf(zone, edits, problem.errors);
    if (!faults.length && !others.length) others.push(problem.message);
    state.faults = faults;
    redraw();
    const items = faults.map(({ key, record, message }) =>
      h("li", h("button.plain", { type: "button", onclick: () => open(key) }, wordsOf(key, record)), `: ${message}`),
    );
    fill(
      trouble,
      h("strong", "Nothing was saved"),
      h(
        "ul",
        items,
        others.map((message) => h("li", message)),
      ),
    );
    trouble.hidden = false;
    trouble.focus();
  };

  const open = (/** @type {string} */ key) => {
    const row = everything(state).find(({ set }) => keyOf(set) === key);
    if (row) edit(row);
  };

  const taken = (/** @type {{ sets: Map<string, RecordSet>, serial: number }} */ { sets, serial }) => {
    const theirs = take(state, sets, serial);
    if (theirs.length) {
      fill(meanwhile, h("strong", new Overtaken().message), diffOf(theirs));
      meanwhile.hidden = false;
    } else if (!state.edits.size) meanwhile.hidden = true;
    drawTypes();
  };

  const read = filled(
    list,
    async () => {
      taken(await readSets(zone, signal));
      return draw();
    },
    signal,
  );

  const search = text(state.wanted.find, {
    type: "search",
    placeholder: "Name or record contains …",
    "aria-label": "Name or record contains",
  });
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => find({ find: search.value.trim().toLowerCase() }), WAIT_MS);
  });
  const filters = h("div.filters", { role: "search", "aria-label": "Record sets" }, search, types);
  const end = readonly ? null : button("Add record set", add, { name: "plus", small: true });
  const element = card("Records", [filters, trouble, meanwhile, list, foot, bar], { flush: true, end, id: "records" });
  keys(list, back, on, signal);
  return { element, read };
}

/** @param {Row} row */
function recordsCell({ set, edit, faults }) {
  const gone = edit?.after === null;
  const state = gone ? tag("removed", "bad") : edit ? tag(edit.before ? "changed" : "new", "info") : null;
  const lines = set.records
    .slice(0, SHOWN)
    .map(({ content, disabled }) =>
      h("div.content.mono", gone ? h("del", content) : content, disabled ? [" ", h("span.tag", "disabled")] : null),
    );
  const more = set.records.length - SHOWN;
  return h(
    "div.contents",
    lines,
    more > 0 ? h("div.faint", `and ${whole(more)} more`) : null,
    state ? h("div", state) : null,
    faults.map(({ record, message }) => h("div.fault", record === null ? message : `Record ${record + 1}: ${message}`)),
  );
}

/**
 * @param {string} key
 * @param {number | null} record
 */
function wordsOf(key, record) {
  return record === null ? key : `${key}, record ${record + 1}`;
}
