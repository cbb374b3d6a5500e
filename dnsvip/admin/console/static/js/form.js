// Fields that know where in an object they stand, so that each error of the API appears at the field it is about.
import { Problem } from "./api.js";
import { h, fresh } from "./dom.js";

/** A labelled control for the key `path` ("proof.bind"); `control` gets its id and descriptions here. */
export function field(label, path, control, { hint, kind = "" } = {}) {
  const id = fresh("field");
  const error = h("span.error", { id: `${id}-error`, role: "alert" });
  const note = hint ? h("span.hint", { id: `${id}-hint` }, hint) : null;
  control.id = id;
  control.setAttribute("aria-describedby", [note ? `${id}-hint` : "", `${id}-error`].join(" ").trim());
  return h("div.field", { class: kind, dataset: { path } }, h("label", { for: id }, label), control, note, error);
}

/** A group of controls for one key, with one place for its errors. */
export function group(title, path, content, { hint } = {}) {
  return h(
    "fieldset.field",
    { dataset: { path } },
    h("legend", title),
    hint ? h("span.hint", hint) : null,
    content,
    h("span.error", { role: "alert" }),
  );
}

export function text(value = "", attributes = {}) {
  return h("input", { type: "text", value: value ?? "", autocomplete: "off", spellcheck: "false", ...attributes });
}

export function number(value, attributes = {}) {
  return h("input", { type: "number", value: value ?? "", inputmode: "numeric", ...attributes });
}

/** A choice; `options` are words or [value, text]. */
export function choice(value, options, attributes = {}) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  if (value && !pairs.some(([each]) => each === value)) pairs.unshift([value, value]);
  const control = h(
    "select",
    attributes,
    pairs.map(([each, shown]) => h("option", { value: each }, shown)),
  );
  control.value = value ?? pairs[0]?.[0] ?? "";
  return control;
}

/** A checkbox with its text. */
export function check(label, path, value) {
  const control = h("input", { type: "checkbox", checked: Boolean(value) });
  return h("div.field", { dataset: { path } }, h("label.check", control, label), h("span.error", { role: "alert" }));
}

/** The control of a field made here. */
export function control(made) {
  return made.querySelector("input, select, textarea");
}

/** Remove what was said about the fields of a form. */
export function clear(form) {
  for (const each of form.querySelectorAll(".error, .form-error")) each.textContent = "";
  for (const each of form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  const whole = form.querySelector(".form-error");
  if (whole) whole.hidden = true;
}

/** Where errors go that are about no field; put it at the top of a form. */
export function general() {
  return h("div.form-error", { role: "alert", hidden: true });
}

/** Show a Problem: each error at its field, the rest in the general place; focus goes to the first field. */
export function show(form, problem, prefix) {
  clear(form);
  const rest = [];
  let first = null;
  for (const { where, message } of problem.errors ?? []) {
    const path = where.startsWith(`${prefix}.`) ? where.slice(prefix.length + 1) : where;
    const place = nearest(form, path);
    if (!place) {
      rest.push(`${path}: ${message}`);
      continue;
    }
    const error = place.querySelector(":scope > .error");
    error.textContent = [error.textContent, message].filter(Boolean).join("; ");
    const wrong = control(place);
    wrong?.setAttribute("aria-invalid", "true");
    first ??= wrong;
  }
  if (!problem.errors?.length) rest.push(problem.message);
  const whole = form.querySelector(".form-error");
  whole.hidden = !rest.length;
  whole.textContent = rest.join("; ");
  (first ?? whole).focus?.();
  if (!first) whole.scrollIntoView({ block: "nearest" });
}

function nearest(form, path) {
  const fields = [...form.querySelectorAll("[data-path]")].filter(
    (each) => path === each.dataset.path || path.startsWith(`${each.dataset.path}.`),
  );
  return fields.sort((a, b) => b.dataset.path.length - a.dataset.path.length)[0];
}

/** A merge patch (RFC 7396) that makes `after` of `before`: what is equal is left out, what is gone is null. */
export function difference(before, after) {
  const patch = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[key], after[key]];
    if (now === undefined) patch[key] = null;
    else if (isObject(old) && isObject(now)) {
      const inner = difference(old, now);
      if (Object.keys(inner).length) patch[key] = inner;
    } else if (JSON.stringify(old) !== JSON.stringify(now)) patch[key] = now;
  }
  return patch;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** What a form says that was sent without a name, told as the API tells its errors. */
export function nameless() {
  const errors = [{ where: "name", message: "A name is needed." }];
  return new Problem(422, { detail: "A name is needed.", errors });
}
