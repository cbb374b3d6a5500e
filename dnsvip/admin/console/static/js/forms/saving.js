// @ts-check
// How a form's object reaches the API: created, changed by a merge patch on the state that was shown, removed; each
// with its undo, as far as there is one.
import { at, call, Problem, query } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import * as form from "./form.js";
import { changes } from "../kinds/history.js";
import { hurry } from "../api/live.js";
import { confirm, done } from "../draw/notices.js";
import { inverse } from "./patch.js";
import { may } from "../api/rights.js";
import { description, kindOf } from "../api/schema.js";

/** @typedef {import("./objectform.js").ObjectForm} ObjectForm */
/** @typedef {import("./objectform.js").Held} Held */

/**
 * The path of an object; that of a kind that exists once has no name.
 * @param {import("../api/schema.js").Kind} about
 * @param {string | undefined} name
 */
export function pathOf(about, name) {
  return name === undefined ? about.path : `${about.path}/${at(name)}`;
}

/**
 * Store what is entered as a new object; raises Problem, also where there is one of that name already.
 * @param {ObjectForm} made
 */
export async function create(made) {
  const { about, options, shown } = made;
  const name = made.name();
  if (!name) throw form.nameless();
  const whole = shown.whole();
  const body = options.prepare?.(whole) ?? whole;
  const path = options.part ? `${options.part.path}/${at(name)}` : pathOf(about, name);
  const data = options.send
    ? await options.send(name)
    : (await call("PUT", path, { body, headers: { "If-None-Match": "*" } })).data;
  options.close?.();
  await options.after?.();
  done(`${data.name ?? name} created`);
  await options.made?.(body, data);
  hurry();
}

/**
 * Send what was changed. Where somebody else was quicker, that is shown, and what was entered stays.
 * @param {ObjectForm} made
 * @param {Held} held
 */
export async function save(made, held) {
  const { about, options, shown } = made;
  const patch = shown.changes();
  const path = options.part ? `${options.part.path}/${at(held.data["name"])}` : pathOf(about, held.data["name"]);
  const title = held.data["name"] ?? about.label;
  if (!Object.keys(patch).length) {
    options.close?.();
    return done("Nothing to save");
  }
  try {
    take(made, await call("PATCH", path, { body: patch, etag: held.etag }));
  } catch (error) {
    if (error instanceof Problem && error.status === 412) throw await overtaken(made, held, path);
    throw error;
  }
  const undo = async () => {
    take(made, await call("PATCH", path, { body: inverse(held.data, patch), etag: made.held?.etag }));
    await options.after?.();
    hurry();
  };
  made.meanwhile.hidden = true;
  options.close?.();
  await options.after?.();
  done(`${title} changed`, Object.keys(patch).every((key) => key in held.data) ? undo : undefined);
  hurry();
}

/**
 * Show what somebody else has changed, and go on from there.
 * @param {ObjectForm} made
 * @param {Held} held
 * @param {string} path
 */
async function overtaken(made, held, path) {
  const now = await call("GET", path);
  const { meanwhile, about } = made;
  fill(meanwhile, h("strong", "What has changed"), changes({ before: held.data, after: now.data, action: "~" }));
  meanwhile.hidden = false;
  take(made, now);
  const kind = /^[A-Z][a-z]/.test(about.label) ? about.label.toLowerCase() : about.label;
  return new Problem(412, {
    detail: `Somebody else has changed this ${kind} meanwhile. Your entries are kept; save again to apply them.`,
  });
}

/**
 * Go on from another state of the object; what somebody is entering stays.
 * @param {ObjectForm} made
 * @param {Held} now
 */
export function take(made, now) {
  made.held = { data: now.data, etag: now.etag };
  made.shown.take(now.data);
}

/**
 * Ask, then remove an object. What is removed can be restored unless it has a secret.
 * @param {string} kind
 * @param {Held} held
 * @param {{ text: string, after: () => unknown, path?: string, lasting?: boolean, also?: string }} how  `also`: the label
 *   of a box that adds `end_flows`
 */
export async function removeObject(kind, { data, etag }, { text, after, path, lasting = false, also }) {
  const target = path ?? pathOf(kindOf(await description(), kind), data["name"]);
  const box = also ? { label: also, checked: true } : undefined;
  if (!(await confirm({ title: `Remove ${data["name"]}?`, text, action: "Remove", danger: true, also: box }))) return;
  await call("DELETE", target + query({ end_flows: box?.checked ? "true" : null }), { etag });
  await after();
  const undo = async () => {
    await call("PUT", target, { body: data, headers: { "If-None-Match": "*" } });
    await after();
    hurry();
  };
  const back = !lasting && may("write", kind, data["name"]);
  done(`${data["name"]} removed`, back ? undo : undefined);
  hurry();
}
