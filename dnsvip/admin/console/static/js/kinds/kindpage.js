// @ts-check
// A page for one kind of object: its list, and a dialog to create, change and remove one.
import { at, call } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { control } from "../forms/form.js";
import { kindList } from "../lists/kindlist.js";
import { failed, open } from "../draw/notices.js";
import { objectForm } from "../forms/objectform.js";
import { button, card, head, titleIn } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { removeObject } from "../forms/saving.js";
import { description, kindOf } from "../api/schema.js";

/** @typedef {import("../frame/pages.js").Context} Context */
/** @typedef {import("../draw/dom.js").Child} Child */

/**
 * What a kind's list and form have that others have not.
 * @typedef {object} Special
 * @property {string} kind
 * @property {string} nothing  where there is none yet
 * @property {string} [lead]
 * @property {boolean} [filters]
 * @property {import("../forms/objectform.js").Options} [form]
 * @property {Record<string, ((object: any) => Child) | null>} [cells]
 * @property {import("../lists/table.js").Column<any>[]} [more]
 * @property {string} [removal]  what is said before one is removed
 */

/**
 * Show the page of a kind.
 * @param {HTMLElement} view
 * @param {Context} context
 * @param {Special} special
 */
export async function kindPage(view, context, special) {
  const about = kindOf(await description(), special.kind);
  const list = editableList(context, { filters: true, ...special });
  const add = button(`New ${titleIn(about.label)}`, list.add, { kind: "main-action" });
  fill(
    view,
    head(about.label_plural, { lead: special.lead ?? about.help, actions: may("write", special.kind) ? [add] : [] }),
    card("", list.place, { flush: true }),
  );
  await list.show();
}

/**
 * The list of a kind with a button in each row that edits the object in a dialog.
 * @param {Context} context
 * @param {Special} special
 */
export function editableList({ query, signal, page }, special) {
  const { kind } = special;
  const place = h("div");
  let again = async () => {};
  const edit = {
    title: "",
    cell: (/** @type {any} */ object) =>
      may("write", kind, object.name) &&
      h(
        "div.row.nowrap",
        button("", () => editInDialog(kind, object.name, { ...special, after: () => again() }), {
          name: "edit",
          small: true,
          kind: "quiet",
          label: `Edit ${object.name}`,
        }),
      ),
  };
  const more = [...(special.more ?? []), ...(may("write", kind) ? [edit] : [])];
  return {
    place,
    show: async () => {
      again = await kindList(place, kind, { ...special, page: page.name, query, signal, more });
    },
    add: () => editInDialog(kind, null, { ...special, after: () => again() }),
  };
}

/**
 * Edit an object as it is now, or make a new one.
 * @param {string} kind
 * @param {string | null} name  null: a new one
 * @param {{ form?: import("../forms/objectform.js").Options, removal?: string, after: () => unknown }} how
 */
export async function editInDialog(kind, name, { form = {}, removal, after }) {
  const about = kindOf(await description(), kind);
  const held = name === null ? null : await call("GET", `${about.path}/${at(name)}`);
  const remove =
    name !== null && may("delete", kind, name) ? h("button.button.danger", { type: "button" }, "Remove") : null;
  const made = await objectForm(kind, held, { ...form, after, buttons: remove, close: () => dialog.close() });
  const dialog = open(held ? `${about.label} ${name}` : `New ${titleIn(about.label)}`, made.element, { wide: true });
  if (!held) control(made.element)?.focus();
  remove?.addEventListener("click", () => {
    const text = removal ?? "This is refused while another object refers to it.";
    dialog.close();
    if (made.held) removeObject(kind, made.held, { text, after }).catch(failed);
  });
}
