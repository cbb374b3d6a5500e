// @ts-check
// The fields of one object as they are drawn once. What comes later from the server goes only into fields that nobody
// has changed and nobody is in; what is sent is only what was changed.
import { h } from "../draw/dom.js";
import { editor } from "./groups.js";
import { difference, given } from "./patch.js";
import { fieldsOf, uiOf } from "../api/schema.js";

/** @typedef {import("../api/schema.js").Schema} Schema */
/** @typedef {import("./editors.js").Kit} Kit */
/** @typedef {import("./patch.js").Json} Json */

/**
 * One field: `base` is the value that it was drawn with.
 * @typedef {{ key: string, schema: Schema, required: boolean, base: any, editor: import("./editors.js").Editor }} Slot
 */

/**
 * @typedef {object} Fields
 * @property {HTMLElement} element
 * @property {() => Json} whole  the object as entered, without what was left empty
 * @property {() => Json} changes  a merge patch of what was changed
 * @property {(object: Json) => void} take  go on from another state of the object
 * @property {(object: Json) => void} reset  draw all fields anew
 */

/**
 * The fields of an object of a schema.
 * @param {Kit} kit
 * @param {Schema} schema
 * @param {Json} object  its values; of a new one, what to begin with
 * @param {string[]} omit  fields that are not shown
 * @returns {Fields}
 */
export function fields(kit, schema, object, omit = []) {
  const slots = fieldsOf(kit.document, schema)
    .filter(([key, field]) => key !== "name" && !omit.includes(key) && !(kit.readonly && uiOf(field).secret))
    .map(([key, field]) => {
      const required =
        Boolean(schema.required?.includes(key)) &&
        !field.nullable &&
        field.default === undefined &&
        !uiOf(field).secret;
      return slotOf(kit, key, field, required, object[key]);
    });
  const element = h(
    "div.form-grid",
    slots.map((slot) => slot.editor.element),
  );
  const redraw = (/** @type {Slot} */ slot, /** @type {any} */ value) => {
    const old = slot.editor.element;
    Object.assign(slot, slotOf(kit, slot.key, slot.schema, slot.required, value));
    old.replaceWith(slot.editor.element);
  };
  return {
    element,
    whole: () => given(Object.fromEntries(slots.map((slot) => [slot.key, slot.editor.value()]))),
    changes: () => Object.assign({}, ...slots.map(changed)),
    take: (now) => {
      for (const slot of slots) {
        const value = now[slot.key];
        if (!differs(value, slot.editor.value())) slot.base = value;
        else if (!differs(slot.base, slot.editor.value()) && !slot.editor.element.contains(document.activeElement))
          redraw(slot, value);
      }
    },
    reset: (now) => slots.forEach((slot) => redraw(slot, now[slot.key])),
  };
}

/**
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {boolean} required
 * @param {any} value
 * @returns {Slot}
 */
function slotOf(kit, key, schema, required, value) {
  const base = value === undefined ? schema.default : value;
  return { key, schema, required, base, editor: editor(kit, key, schema, base, { required }) };
}

/** @param {Slot} slot */
function changed(slot) {
  const now = slot.editor.value();
  if (uiOf(slot.schema).secret && now === undefined) return {};
  return difference({ [slot.key]: slot.base }, { [slot.key]: now });
}

/**
 * @param {any} before
 * @param {any} after
 */
function differs(before, after) {
  return Object.keys(difference({ value: before }, { value: after })).length > 0;
}
