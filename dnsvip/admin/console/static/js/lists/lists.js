// @ts-check
// Lists of any length by pages: the server's cursor leads on, the cursors passed lead back.
import { call, ROOT } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { bind } from "../frame/keyboard.js";
import { button, filled } from "../draw/parts.js";

/**
 * Show pages of `path` ("/api/v1/clients") in `place`: `draw(items)` gives the content of one. Returns `show(query)` for a new search, and
 * `again()` to read the present page anew.
 * @param {HTMLElement} place
 * @param {string} path
 * @param {(items: any[]) => import("../draw/dom.js").Child} draw
 * @param {AbortSignal} signal
 */
export function paged(place, path, draw, signal) {
  /** @type {string[]} */
  const passed = [];
  let present = "";
  /** @type {string | null} */
  let next = null;
  const list = h("div");
  const back = button("Back", () => turn(passed.pop() ?? ""), { name: "left", small: true });
  const forth = () => {
    passed.push(present);
    return turn(next ?? "");
  };
  const on = button("Next", forth, { small: true });
  const count = h("span.faint", { role: "status" });
  const foot = h("div.row.spread.list-foot", { hidden: true }, count, h("div.row", back, on));
  back.dataset.action = "back";
  on.dataset.action = "next";
  fill(place, list, foot);
  const run = filled(
    list,
    async () => {
      const asked = present;
      const { data } = await call("GET", asked, { signal });
      if (asked !== present) return null;
      next = data.next?.startsWith(ROOT) ? data.next : null;
      back.disabled = passed.length === 0;
      on.disabled = next === null;
      foot.hidden = back.disabled && on.disabled;
      count.textContent = foot.hidden ? "" : `Page ${passed.length + 1}, ${data.items.length} shown`;
      return draw(data.items);
    },
    signal,
  );
  const turn = async (/** @type {string} */ to) => {
    present = to;
    await run();
    back.disabled = passed.length === 0;
    on.disabled = next === null;
  };
  keys(place, back, on, signal);
  return {
    show: (/** @type {string} */ query) => {
      passed.length = 0;
      return turn(`${path}${query}`);
    },
    again: run,
  };
}

/**
 * j and k go from row to row, n and p from page to page.
 * @param {HTMLElement} place
 * @param {HTMLElement} back
 * @param {HTMLElement} on
 * @param {AbortSignal} signal
 */
export function keys(place, back, on, signal) {
  const rows = () => /** @type {HTMLElement[]} */ ([...place.querySelectorAll("tbody tr :is(a, button).lead")]);
  const step = (/** @type {number} */ by) => () => {
    const all = rows();
    const now = all.findIndex((row) => row === document.activeElement);
    all[Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + by))]?.focus();
  };
  const bound = { j: step(1), k: step(-1), n: () => on.click(), p: () => back.click() };
  Object.entries(bound).forEach(([key, action]) => bind(key, action, signal));
}
