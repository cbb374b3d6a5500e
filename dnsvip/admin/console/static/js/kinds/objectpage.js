// @ts-check
// Pages for a kind whose objects have pages of their own: the list, one object with its history, a new one.
import { call } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { control } from "../forms/form.js";
import { historyOf } from "./history.js";
import { kindList } from "../lists/kindlist.js";
import { objectForm } from "../forms/objectform.js";
import { button, card, empty, filled, head, hidden, titleIn } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { go, link } from "../frame/router.js";
import { pathOf, removeObject } from "../forms/saving.js";
import { description, kindOf } from "../api/schema.js";

/** @typedef {import("../frame/pages.js").Context} Context */
/** @typedef {import("../draw/dom.js").Child} Child */
/** @typedef {import("../forms/objectform.js").ObjectForm} ObjectForm */

/**
 * What a kind's pages have that others have not.
 * @typedef {object} Special
 * @property {string} kind
 * @property {string} nothing  where there is none yet
 * @property {string} removal  what is said before one is removed
 * @property {boolean} [lasting]  a removal cannot be undone
 * @property {string} [also]  the label of a box at its removal that ends flows too
 * @property {Child} [lead]
 * @property {import("../forms/objectform.js").Options} [form]
 * @property {import("../forms/objectform.js").Options} [fresh]  what the form of a new one has beside
 * @property {Record<string, ((object: any) => Child) | null>} [cells]
 * @property {(made: ObjectForm, again: () => Promise<void>) => Child[]} [actions]  buttons of one object
 * @property {(object: any) => Child} [under]  below the title of one
 * @property {(object: any, signal: AbortSignal) => Child} [beside]  cards above its history
 * @property {(made: ObjectForm, again: () => Promise<void>) => { element: HTMLElement, read: () => Promise<void> } | null} [main]
 *   a card above its settings, read anew after any change
 */

/**
 * Show the list, the object that the address names, or the form for a new one.
 * @param {HTMLElement} view
 * @param {Context} context
 * @param {Special} special
 */
export async function objectPage(view, context, special) {
  const about = kindOf(await description(), special.kind);
  const [name] = context.parts;
  if (name === undefined) return showList(view, context, about, special);
  if (name === "new" && context.query["make"] === "1") return showNew(view, context, about, special);
  return showObject(view, context, about, name, special);
}

/**
 * @param {HTMLElement} view
 * @param {Context} context
 * @param {import("../api/schema.js").Kind} about
 * @param {Special} special
 */
async function showList(view, { query, signal, page }, about, { kind, lead, nothing, cells }) {
  const place = h("div");
  const href = link([page.name, "new"], { make: "1" });
  const add = h("a.button.main-action", { href }, `New ${titleIn(about.label)}`);
  fill(
    view,
    head(about.label_plural, { lead: lead ?? about.help, actions: may("write", kind) ? [add] : [] }),
    card("", place, { flush: true }),
  );
  await kindList(place, kind, { page: page.name, query, signal, nothing, cells, opens: true, filters: true });
}

/**
 * @param {HTMLElement} view
 * @param {Context} context
 * @param {import("../api/schema.js").Kind} about
 * @param {Special} special
 */
async function showNew(view, { page }, about, { kind, form = {}, fresh = {} }) {
  const made = await objectForm(kind, null, {
    ...form,
    ...fresh,
    buttons: h("a.button", { href: link(page.name) }, "Cancel"),
    made: async (body, data) => {
      await (fresh.made ?? form.made)?.(body, data);
      go([page.name, data["name"]]);
    },
  });
  fill(view, head(`New ${titleIn(about.label)}`, { crumb: crumb(page.name, about) }), card("", made.element));
  control(made.element)?.focus();
}

/**
 * @param {HTMLElement} view
 * @param {Context} context
 * @param {import("../api/schema.js").Kind} about
 * @param {string} name
 * @param {Special} special
 */
async function showObject(view, { signal, page }, about, name, special) {
  const { kind, form = {} } = special;
  const back = crumb(page.name, about);
  if (!may("read", kind, name))
    return fill(view, head(name, { crumb: back }), hidden(`the ${titleIn(about.label)} ${name}`));
  const held = await found(pathOf(about, name), signal);
  if (!held) return fill(view, head(name, { crumb: back }), empty(`There is no ${titleIn(about.label)} ${name}`));
  const object = held.data;
  const history = h("div");
  const readAgain = filled(history, () => historyOf(kind, object["name"], signal), signal);
  const top = h("div.stack.object-head");
  const again = async () => {
    await drawTop();
    await main?.read();
    if (may("read", "audit") || kind === "client") await readAgain();
  };
  const made = await objectForm(kind, held, {
    ...form,
    after: again,
    readonly: !may("write", kind, object["name"]),
  });
  made.element.id = `${kind}-form`;
  const drawTop = async () => {
    if (signal.aborted || !made.held) return;
    const { data } = made.held;
    const actions = [...(special.actions?.(made, again) ?? []), removal(made, page.name, special)];
    fill(top, head(data["name"], { crumb: back, actions }), special.under?.(data));
  };
  const main = special.main?.(made, again);
  await drawTop();
  const beside = [special.beside?.(object, signal), card("History", history, { flush: true })];
  const settings = card("Settings", made.element);
  fill(
    view,
    top,
    special.beside
      ? h("div.grid", h("div.span-7", settings), h("div.span-5.stack", beside))
      : [main?.element, settings, may("read", "audit") ? beside : null],
  );
  await main?.read();
  if (special.beside || may("read", "audit")) await readAgain();
}

/**
 * An object, null where there is none.
 * @param {string} path
 * @param {AbortSignal} signal
 */
async function found(path, signal) {
  try {
    return await call("GET", path, { signal });
  } catch (problem) {
    if (/** @type {import("../api/api.js").Problem} */ (problem).status === 404) return null;
    throw problem;
  }
}

/**
 * @param {ObjectForm} made
 * @param {string} page
 * @param {Special} special
 */
function removal({ held, about }, page, { kind, removal: text, lasting, also }) {
  if (!held || !may("delete", kind, held.data["name"])) return null;
  const after = () => go(page);
  const label = `Remove ${titleIn(about.label)}`;
  return button("", () => removeObject(kind, held, { text, after, lasting, also }), {
    name: "trash",
    kind: "danger",
    label,
  });
}

/**
 * @param {string} page
 * @param {import("../api/schema.js").Kind} about
 */
function crumb(page, about) {
  return { href: link(page), text: about.label_plural };
}
