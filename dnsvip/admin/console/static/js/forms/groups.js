// @ts-check
// Editors of what has parts: objects, lists, tables whose keys one names. Each is drawn once; its rows come and go, but
// none is drawn again.
import { h } from "../draw/dom.js";
import { plain, values } from "./editors.js";
import * as form from "./form.js";
import { icon } from "../draw/icons.js";
import { choicesOf, fieldsOf, labelOf, resolved, uiOf, waysOf } from "../api/schema.js";

/** @typedef {import("../api/schema.js").Schema} Schema */
/** @typedef {import("./editors.js").Editor} Editor */
/** @typedef {import("./editors.js").Kit} Kit */
/** @typedef {import("./editors.js").How} How */

/** @typedef {{ cells: HTMLElement[], value: () => any, name?: () => string }} Row  `name`: the key in a table */

/**
 * The editor of any field.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema  resolved
 * @param {any} value
 * @param {How} [how]
 * @returns {Editor}
 */
export function editor(kit, key, schema, value, how = {}) {
  if (schema.properties) return object(kit, key, schema, value);
  if (schema.type === "array") return list(kit, key, schema, value ?? [], how);
  if (typeof schema.additionalProperties === "object") return table(kit, key, schema, value ?? {});
  return plain(kit, key, schema, value, how);
}

/**
 * The editors of an object's fields.
 * @param {Kit} kit
 * @param {Schema} schema
 * @param {any} value  null: a new one
 * @param {string[]} [without]  fields that stay as they are
 * @returns {{ key: string, editor: Editor }[]}
 */
function parts(kit, schema, value, without = []) {
  return fieldsOf(kit.document, schema)
    .filter(([key]) => !without.includes(key))
    .map(([key, field]) => ({
      key,
      editor: editor(kit, key, field, value?.[key] ?? field.default, {
        required: Boolean(schema.required?.includes(key)) && !field.nullable && field.default === undefined,
      }),
    }));
}

/**
 * An object in an object; one that may be absent has a switch.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @returns {Editor}
 */
function object(kit, key, schema, value) {
  const fields = parts(kit, schema, value);
  const read = () => Object.fromEntries(fields.map((each) => [each.key, each.editor.value()]));
  const body = h(
    "div.form-grid",
    fields.map((each) => each.editor.element),
  );
  const { help } = uiOf(schema);
  if (!schema.nullable)
    return { element: form.group(labelOf(key, schema), key, body, { hint: help, kind: "wide boxed" }), value: read };
  const toggle = h("input", { type: "checkbox", checked: value !== null && value !== undefined });
  const show = () => {
    body.hidden = !toggle.checked;
  };
  toggle.addEventListener("change", show);
  show();
  const title = h("label.switch", toggle, labelOf(key, schema));
  return {
    element: form.group(title, key, body, { hint: help, kind: "wide boxed" }),
    value: () => (toggle.checked ? read() : null),
  };
}

/**
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any[]} items
 * @param {How} how
 * @returns {Editor}
 */
function list(kit, key, schema, items, how) {
  if (schema.prefixItems) return repeated(kit, key, schema, items, tuple(kit, schema.prefixItems));
  const item = resolved(kit.document, schema.items || {});
  const ways = waysOf(kit.document, item);
  if (ways) return repeated(kit, key, schema, items, alternative(kit, ways, item.examples?.[0]));
  if (item.prefixItems) return repeated(kit, key, schema, items, tuple(kit, item.prefixItems));
  if (item.properties) return repeated(kit, key, schema, items, record(kit, item));
  if (choicesOf(item)) return repeated(kit, key, schema, items, single(kit, key, item));
  return values(kit, key, schema, items, item, how);
}

/**
 * Rows of one control.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} item
 */
function single(kit, key, item) {
  return (/** @type {any} */ value) => {
    const made = plain(kit, key, { ...item, "x-ui": { ...item["x-ui"], label: "Value" } }, value, { quiet: true });
    delete made.element.dataset.path;
    return { cells: [made.element], value: made.value };
  };
}

/**
 * Rows of columns, such as a field of a layout and its bits.
 * @param {Kit} kit
 * @param {Schema[]} columns
 */
function tuple(kit, columns) {
  return (/** @type {any} */ value) => {
    const cells = columns.map((column, place) => {
      const schema = resolved(kit.document, column);
      return plain(kit, String(place), schema, value?.[place], { quiet: true });
    });
    return { cells: cells.map((cell) => cell.element), value: () => cells.map((cell) => cell.value() ?? null) };
  };
}

/**
 * Rows that are objects.
 * @param {Kit} kit
 * @param {Schema} item
 */
function record(kit, item) {
  return (/** @type {any} */ value) => {
    const fields = parts(kit, item, value);
    return {
      cells: [
        h(
          "div.form-grid",
          fields.map((each) => each.editor.element),
        ),
      ],
      value: () => Object.fromEntries(fields.map((each) => [each.key, each.editor.value()])),
    };
  };
}

/**
 * Rows that give one of several keys, such as the ways to identify a client.
 * @param {Kit} kit
 * @param {[string, Schema][]} ways
 * @param {any} example  its key is that of a new row
 */
function alternative(kit, ways, example) {
  return (/** @type {any} */ given) => {
    const [[step, value] = [Object.keys(example ?? {})[0] ?? "", ""]] = Object.entries(given ?? {});
    const kind = form.choice(
      step,
      ways.map(([key, schema]) => [key, labelOf(key, schema)]),
      { "aria-label": "Kind" },
    );
    const place = h("div.way");
    const draw = (/** @type {any} */ text) => {
      const schema = ways.find(([key]) => key === kind.value)?.[1] ?? {};
      const made = plain(kit, kind.value, schema, text, { quiet: true, required: true });
      made.element.querySelector("label")?.replaceChildren("Value");
      place.replaceChildren(made.element);
      return made;
    };
    let current = draw(value);
    kind.addEventListener("change", () => {
      current = draw("");
    });
    return { cells: [kind, place], value: () => ({ [kind.value]: current.value() ?? "" }) };
  };
}

/**
 * A table whose keys one names.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {Record<string, any>} entries
 * @returns {Editor}
 */
function table(kit, key, schema, entries) {
  const inner = resolved(kit.document, /** @type {Schema} */ (schema.additionalProperties));
  const names = resolved(kit.document, schema.propertyNames ?? {});
  const row = (/** @type {any} */ entry) => {
    const ui = { refers: uiOf(schema).refers, ...names["x-ui"], label: "Name" };
    const name = plain(kit, "", { type: "string", ...names, "x-ui": ui }, entry?.[0], { quiet: true, required: true });
    const titled = { ...inner, "x-ui": { label: "Value", ...inner["x-ui"] } };
    const value = editor(kit, "", titled, entry?.[1], { quiet: true });
    for (const each of [name, value]) delete each.element.dataset.path;
    return {
      cells: [name.element, value.element],
      name: () => String(name.value() ?? ""),
      value: () => [name.value() ?? "", value.value() ?? ""],
    };
  };
  const made = repeated(kit, key, schema, Object.entries(entries), row, false);
  return {
    element: made.element,
    value: () =>
      Object.fromEntries(made.value().filter((/** @type {any[]} */ pair) => pair[0] !== "" || pair[1] !== "")),
  };
}

/**
 * Rows that are added, removed and, where their order matters, moved.
 * @param {Kit} _kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any[]} items
 * @param {(item: any) => Row} rowOf
 * @param {boolean} ordered
 * @returns {Editor}
 */
function repeated(_kit, key, schema, items, rowOf, ordered = true) {
  /** @type {{ element: HTMLElement, row: Row }[]} */
  let rows = [];
  const body = h("div.form-rows");
  const label = labelOf(key, schema);
  const add = h(
    "button.button.small",
    { type: "button", onclick: () => form.control(put(undefined))?.focus() },
    icon("plus", 14),
    `Add to ${label.toLowerCase()}`,
  );
  const count = () => {
    rows = [...body.children].flatMap((element) => rows.find((each) => each.element === element) ?? []);
    rows.forEach(({ element, row }, place) => {
      element.dataset.path = row.name ? row.name() : String(place);
    });
  };
  const put = (/** @type {any} */ item) => {
    const row = rowOf(item);
    const remove = () => {
      const next = element.nextElementSibling ?? element.previousElementSibling;
      element.remove();
      count();
      /** @type {HTMLElement} */ (next?.querySelector("[data-row=remove]") ?? add).focus();
    };
    /** The neighbour moves, so that the focus stays where it is. @param {number} by */
    const move = (by) => {
      if (by < 0 && element.previousElementSibling) element.after(element.previousElementSibling);
      if (by > 0 && element.nextElementSibling) element.before(element.nextElementSibling);
      count();
    };
    const element = h(
      "div.form-row",
      { oninput: count },
      h("div.form-cells", row.cells),
      h(
        "div.row.nowrap",
        ordered && small("up", "Move up", "up", () => move(-1)),
        ordered && small("down", "Move down", "down", () => move(1)),
        small("cross", "Remove", "remove", remove),
      ),
      h("span.error", { role: "alert" }),
    );
    rows.push({ element, row });
    body.append(element);
    count();
    return element;
  };
  items.forEach(put);
  return {
    element: form.group(label, key, h("div.stack.tight", body, add), { hint: uiOf(schema).help, kind: "wide" }),
    value: () => {
      count();
      return rows.map(({ row }) => row.value());
    },
  };
}

/**
 * @param {string} name
 * @param {string} label
 * @param {string} role
 * @param {() => void} act
 */
function small(name, label, role, act) {
  return h(
    "button.button.quiet.icon.small",
    { type: "button", "aria-label": label, title: label, dataset: { row: role }, onclick: act },
    icon(name, 15),
  );
}
