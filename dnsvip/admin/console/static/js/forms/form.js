// @ts-check
// Fields that know where in an object they stand, so that each error of the API appears at the field it is about.
import { Problem } from "../api/api.js";
import { draw, fresh, h } from "../draw/dom.js";

/** @typedef {import("../draw/dom.js").Child} Child */
/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */
/** @typedef {{ where: string, message: string }} Wrong */
/** @typedef {{ message?: string, errors?: Wrong[] }} Refused  a Problem, or what reads like one */

/**
 * A labelled control. `path` is its place in the object around it: a key, or a number in a list.
 * @param {string} label
 * @param {string} path
 * @param {Control} control  gets its id and descriptions here
 * @param {{ hint?: Child, kind?: string, unit?: string, required?: boolean, quiet?: boolean }} [more]
 *   `unit` stands behind the control, a `quiet` label is for screen readers
 */
export function field(label, path, control, { hint, kind = "", unit, required, quiet } = {}) {
  const id = fresh("field");
  const error = h("span.error", { id: `${id}-error`, role: "alert" });
  const note = hint ? h("span.hint", { id: `${id}-hint` }, hint) : null;
  control.id = id;
  control.setAttribute("aria-describedby", [note ? `${id}-hint` : "", `${id}-error`].join(" ").trim());
  if (required) control.setAttribute("aria-required", "true");
  return h(
    "div.field",
    { class: `${kind}${required ? " required" : ""}`, dataset: { path } },
    h("label", { for: id, class: quiet ? "sr-only" : "" }, label),
    unit ? h("span.with-unit", control, h("span.unit", unit)) : control,
    note,
    error,
  );
}

/**
 * A group of controls for one key, with one place for its errors.
 * @param {Child} title
 * @param {string} path
 * @param {Child} content
 * @param {{ hint?: Child, kind?: string }} [more]
 */
export function group(title, path, content, { hint, kind = "" } = {}) {
  return h(
    "fieldset.field",
    { class: kind, dataset: { path } },
    h("legend", title),
    hint ? h("span.hint", hint) : null,
    content,
    h("span.error", { role: "alert" }),
  );
}

/**
 * @param {unknown} value
 * @param {import("../draw/dom.js").Props} attributes
 */
export function text(value = "", attributes = {}) {
  return h("input", {
    type: "text",
    value: String(value ?? ""),
    autocomplete: "off",
    spellcheck: "false",
    ...attributes,
  });
}

/**
 * @param {unknown} value
 * @param {import("../draw/dom.js").Props} attributes
 */
export function number(value, attributes = {}) {
  return h("input", { type: "number", value: String(value ?? ""), inputmode: "decimal", ...attributes });
}

/** @typedef {string | [string | number, string]} Option  a word, or a value and what is shown for it */

/**
 * A choice; a value that is none of the options is offered too.
 * @param {string | number | null | undefined} value
 * @param {Option[]} options
 * @param {import("../draw/dom.js").Props} attributes
 */
export function choice(value, options, attributes = {}) {
  const pairs = options.map((option) =>
    Array.isArray(option) ? { value: String(option[0]), shown: option[1] } : { value: option, shown: option },
  );
  const wanted = value === null || value === undefined ? "" : String(value);
  if (wanted && !pairs.some((pair) => pair.value === wanted)) pairs.unshift({ value: wanted, shown: wanted });
  const select = h(
    "select",
    attributes,
    pairs.map((pair) => h("option", { value: pair.value }, pair.shown)),
  );
  draw(select, pairs.some((pair) => pair.value === wanted) ? wanted : (pairs[0]?.value ?? ""));
  return select;
}

/**
 * The first control in a field.
 * @param {ParentNode} place
 * @returns {Control | null}
 */
export function control(place) {
  return place.querySelector("input, select, textarea");
}

/**
 * Remove what was said about the fields of a form.
 * @param {HTMLElement} form
 */
export function clear(form) {
  for (const each of form.querySelectorAll(".error, .form-error")) each.textContent = "";
  for (const each of form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  const whole = form.querySelector(".form-error");
  if (whole instanceof HTMLElement) whole.hidden = true;
}

/** Where errors go that are about no field; put it at the top of a form. */
export function general() {
  return h("div.form-error", { role: "alert", hidden: true, tabindex: "-1" });
}

/**
 * Show a Problem: each error at its field, the rest in the general place; focus goes to the first field.
 * @param {HTMLElement} form
 * @param {Refused} problem
 * @param {...string} prefixes  what the API may put before the path of a field: "tier.gold"
 */
export function show(form, problem, ...prefixes) {
  clear(form);
  /** @type {string[]} */
  const rest = [];
  /** @type {HTMLElement | null} */
  let first = null;
  for (const { where, message } of problem.errors ?? []) {
    const path = without(prefixes, where);
    const place = nearest(form, path);
    if (!place) {
      rest.push(path ? `${path}: ${message}` : message);
      continue;
    }
    say(place, message);
    first ??= control(place) ?? place;
  }
  if (!problem.errors?.length) rest.push(problem.message ?? "");
  const whole = form.querySelector(".form-error");
  if (!(whole instanceof HTMLElement)) return;
  whole.hidden = !rest.length;
  whole.textContent = rest.join("; ");
  (first ?? whole).focus();
  if (!first) whole.scrollIntoView({ block: "nearest" });
}

/**
 * @param {HTMLElement} place
 * @param {string} message
 */
function say(place, message) {
  const error = place.querySelector(":scope > .error");
  if (error) error.textContent = [error.textContent, message].filter(Boolean).join("; ");
  control(place)?.setAttribute("aria-invalid", "true");
}

/**
 * @param {string[]} prefixes
 * @param {string} where
 */
function without(prefixes, where) {
  const prefix = prefixes.find((each) => where === each || where.startsWith(`${each}.`));
  return prefix === undefined ? where : where.slice(prefix.length + 1);
}

/**
 * The field that stands closest around a path, by its own place and those of the groups around it.
 * @param {HTMLElement} form
 * @param {string} path
 * @returns {HTMLElement | undefined}
 */
function nearest(form, path) {
  const places = /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-path]"));
  const fits = [...places]
    .map((place) => ({ place, whole: pathOf(form, place) }))
    .filter(({ whole }) => path === whole || path.startsWith(`${whole}.`));
  return fits.sort((a, b) => b.whole.length - a.whole.length)[0]?.place;
}

/**
 * @param {HTMLElement} form
 * @param {HTMLElement} place
 */
function pathOf(form, place) {
  const parts = [];
  for (let at = place; at !== form && at.parentElement; at = at.parentElement)
    if (at.dataset.path !== undefined) parts.unshift(at.dataset.path);
  return parts.join(".");
}

/** What a form says that was sent without a name, told as the API tells its errors. */
export function nameless() {
  const errors = [{ where: "name", message: "A name is required." }];
  return new Problem(422, { detail: "A name is required.", errors });
}
