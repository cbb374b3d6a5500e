// @ts-check
// One server of a pool: what changes it (and takes that back), and the dialogs to add, edit and remove one.
import { at, call } from "../api/api.js";
import { h } from "../draw/dom.js";
import { control } from "../forms/form.js";
import { hurry } from "../api/live.js";
import { done, failed, open } from "../draw/notices.js";
import { objectForm } from "../forms/objectform.js";
import { may } from "../api/rights.js";
import { removeObject } from "../forms/saving.js";

/** @typedef {import("../api/api.js").Schemas["Server"]} Server */

/**
 * Change what `patch` names of a server; the toast's undo restores it.
 * @param {string} pool
 * @param {Server} server
 * @param {Partial<Server>} patch
 * @param {string} text
 * @param {() => unknown} again
 */
export async function change(pool, server, patch, text, again) {
  const before = Object.fromEntries(Object.entries(server).filter(([key]) => key in patch));
  const path = at("pools", pool, "servers", server.name);
  await call("PATCH", path, { body: patch });
  await again(); // first: after the message, the list shows the change
  done(text, async () => {
    await call("PATCH", path, { body: before });
    await again();
    hurry();
  });
  hurry();
}

/**
 * The part of a pool that its servers are.
 * @param {string} pool
 */
function part(pool) {
  return { schema: "Server", path: `${at("pools", pool)}/servers`, where: `pool.${pool}.servers` };
}

/**
 * Ask for a new server of a pool.
 * @param {string} pool
 * @param {() => unknown} again
 */
export async function addServer(pool, again) {
  const made = await objectForm("pool", null, { part: part(pool), after: again, close: () => dialog.close() });
  const dialog = open(`New server in ${pool}`, made.element);
  control(made.element)?.focus();
}

/**
 * Edit a server as it is now, or remove it.
 * @param {string} pool
 * @param {string} name
 * @param {() => unknown} again
 */
export async function editServer(pool, name, again) {
  const path = at("pools", pool, "servers", name);
  const held = await call("GET", path);
  const remove = may("delete", "pool", pool) ? h("button.button.danger", { type: "button" }, "Remove") : null;
  const made = await objectForm("pool", held, {
    part: part(pool),
    after: again,
    buttons: remove,
    close: () => dialog.close(),
  });
  const dialog = open(`${name} in ${pool}`, made.element);
  remove?.addEventListener("click", () => {
    const text = "Its flows move to the pool’s other servers at once. Drain it first if they should finish.";
    dialog.close();
    if (made.held) removeObject("pool", made.held, { text, path, after: again }).catch(failed);
  });
}
