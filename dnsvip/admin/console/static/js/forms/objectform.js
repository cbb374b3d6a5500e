// @ts-check
// The form of one object, of whatever kind, made from the API's description. It is drawn once and never again;
// saving.js sends what was changed in it.
import { get } from "../api/api.js";
import { h } from "../draw/dom.js";
import { fields } from "./fieldset.js";
import * as form from "./form.js";
import { may } from "../api/rights.js";
import { create, save } from "./saving.js";
import { description, kindOf, labelOf, named, referred, uiOf } from "../api/schema.js";

/** @typedef {import("./patch.js").Json} Json */
/** @typedef {import("../api/schema.js").Schema} Schema */
/** @typedef {import("../api/schema.js").Document} Document */
/** @typedef {{ data: Json, etag: string | null }} Held  an object as the API gave it */

/**
 * What is special about the form of a kind.
 * @typedef {object} Options
 * @property {string[]} [omit]  fields that are edited elsewhere
 * @property {Json} [initial]  what a new object begins with
 * @property {Record<string, (object: any) => boolean>} [narrow]  which objects a field may name
 * @property {{ schema: string, path: string, where: string }} [part]  of a part of an object: its schema, the path of
 *   its collection, what the API's errors begin with
 * @property {(body: Json) => Json} [prepare]  completes a new object before it is sent
 * @property {(name: string) => Promise<Json>} [send]  makes a new object in another way than by what was entered
 * @property {(body: Json, data: Json) => unknown} [made]  after a new one was stored
 * @property {() => unknown} [after]  after any change
 * @property {() => unknown} [close]  closes the dialog that the form is in, when it was saved
 * @property {import("../draw/dom.js").Child} [buttons]  beside the one that saves
 * @property {boolean} [readonly]
 * @property {(made: ObjectForm) => void} [decorate]  adds to the fields, whenever they are those of another schema
 */

/**
 * A form at work. `held` is the state that changes are made to, null while the object is new.
 * @typedef {object} ObjectForm
 * @property {HTMLFormElement} element
 * @property {Document} document
 * @property {import("../api/schema.js").Kind} about
 * @property {Options} options
 * @property {Held | null} held
 * @property {import("./fieldset.js").Fields} shown
 * @property {HTMLElement} meanwhile  where somebody else's changes are shown
 * @property {() => string} name
 */

/**
 * The form of an object; `held` null: of a new one.
 * @param {string} kind
 * @param {Held | null} held
 * @param {Options} [options]
 * @returns {Promise<ObjectForm>}
 */
export async function objectForm(kind, held, options = {}) {
  const document = await description();
  const about = kindOf(document, kind);
  const schemas = (options.part ? [options.part.schema] : about.schemas).map((name) => named(document, name));
  const kit = {
    document,
    objects: await objectsOf(document, schemas),
    narrow: options.narrow ?? {},
    fresh: !held,
    readonly: Boolean(options.readonly),
  };
  const begin = held?.data ?? options.initial ?? {};
  const draw = (/** @type {Schema} */ schema) => fields(kit, schema, begin, options.omit);
  const first = (held && schemas.find((schema) => fits(schema, begin))) ?? schemas[0] ?? {};
  const name = held ? null : form.text("", { class: "mono" });
  /** @type {ObjectForm} */
  const made = {
    element: h("form.stack", { novalidate: true }),
    document,
    about,
    options,
    held,
    shown: draw(first),
    meanwhile: h("div.meanwhile", { role: "status", hidden: true }),
    name: () => made.held?.data["name"] ?? name?.value.trim() ?? "",
  };
  const family =
    !held && schemas.length > 1
      ? familyOf(schemas, (schema) => {
          const old = made.shown.element;
          made.shown = draw(schema);
          old.replaceWith(made.shown.element);
          options.decorate?.(made);
        })
      : null;
  const head = [name && nameField(document, about, name, options), family].filter(Boolean);
  const inDialog = options.close !== undefined;
  const reset = held && h("button.button", { type: "button", onclick: () => startOver(made) }, "Reset");
  const send = h("button.button.main-action", { type: "submit" }, held ? "Save" : "Create");
  made.element.append(
    form.general(),
    made.meanwhile,
    h(
      "fieldset.stack",
      { disabled: options.readonly },
      head.length ? h("div.form-grid", head) : null,
      made.shown.element,
    ),
    options.readonly ? "" : h("div.row.buttons", inDialog ? [options.buttons, send] : [send, options.buttons, reset]),
  );
  made.element.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!send.disabled) submit(made, send);
  });
  options.decorate?.(made);
  return made;
}

/**
 * Show the object as it was last read, without what was entered.
 * @param {ObjectForm} made
 */
function startOver(made) {
  form.clear(made.element);
  made.meanwhile.hidden = true;
  if (made.held) made.shown.reset(made.held.data);
}

/**
 * @param {ObjectForm} made
 * @param {HTMLButtonElement} send
 */
async function submit(made, send) {
  send.disabled = true;
  form.clear(made.element);
  try {
    await (made.held ? save(made, made.held) : create(made));
  } catch (error) {
    const problem = /** @type {form.Refused} */ (error);
    form.show(made.element, problem, ...prefixesOf(made, problem));
  } finally {
    send.disabled = false;
  }
}

/**
 * What the API's errors about an object begin with: DNS names are filed in lower case, parts by their number.
 * @param {ObjectForm} made
 * @param {form.Refused} problem
 */
function prefixesOf({ about, options, name }, problem) {
  if (options.part) {
    const { where } = options.part;
    const starts = (problem.errors ?? []).filter((error) => error.where.startsWith(`${where}.`));
    return starts.map((error) => `${where}.${error.where.slice(where.length + 1).split(".")[0]}`);
  }
  const filed = name().toLowerCase().replace(/\.+$/, "") || ".";
  return [`${about.kind}.${name()}`, `${about.kind}.${filed}`, about.kind];
}

/**
 * The objects that fields may name, by kind, as far as they may be read.
 * @param {Document} document
 * @param {Schema[]} schemas
 */
async function objectsOf(document, schemas) {
  const kinds = new Set(schemas.flatMap((schema) => [...referred(document, schema)]));
  const readable = [...kinds].filter((kind) => kind !== "client" && may("read", kind));
  const lists = await Promise.all(
    readable.map(async (kind) => {
      const { items } = await get(`${kindOf(document, kind).path}?limit=1000`).catch(() => ({ items: null }));
      return /** @type {[string, any[] | null]} */ ([kind, items]);
    }),
  );
  return new Map(/** @type {[string, any[]][]} */ (lists.filter(([, items]) => items)));
}

/**
 * Whether an object has all fields that a schema requires.
 * @param {Schema} schema
 * @param {Json} object
 */
function fits(schema, object) {
  return (schema.required ?? []).every((key) => key in object);
}

/**
 * A choice between the schemas of a kind that has several.
 * @param {Schema[]} schemas
 * @param {(schema: Schema) => void} choose
 */
function familyOf(schemas, choose) {
  const titles = schemas.map((schema, place) => /** @type {form.Option} */ ([place, titleOf(schema)]));
  const control = form.choice("0", titles);
  control.addEventListener("change", () => choose(schemas[Number(control.value)] ?? {}));
  return form.field("Address family", "", control);
}

/** @param {Schema} schema */
function titleOf(schema) {
  const { format } = /** @type {{ format?: string }} */ (schema.properties?.["prefix"] ?? {});
  return { ipv6network: "IPv6", ipv4network: "IPv4" }[format ?? ""] ?? schema.title ?? "";
}

/**
 * @param {Document} document
 * @param {import("../api/schema.js").Kind} about
 * @param {HTMLInputElement} control
 * @param {Options} options
 */
function nameField(document, about, control, options) {
  const shown = named(document, options.part ? options.part.schema : `${about.schemas[0]}Shown`);
  const schema = shown?.properties?.["name"] ?? {};
  return form.field(labelOf("name", schema), "name", control, { hint: uiOf(schema).help, required: true });
}
