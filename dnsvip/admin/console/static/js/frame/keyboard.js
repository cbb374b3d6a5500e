// @ts-check
// Shortcuts: one key, or g and then a key. They are off while something is typed, and while a dialog is open.

const SEQUENCE_MS = 1500;

/** @typedef {(event: KeyboardEvent) => unknown} Action */

/** @type {Map<string, Action>} */
const single = new Map();
/** @type {Map<string, Action>} */
const after = new Map();
let waiting = 0;

/**
 * Call `action` on a key; on "g x" where `key` is such a pair. With a signal, until it is aborted: a page that has been
 * left before it was ready takes no key from the next one.
 * @param {string} key
 * @param {Action} action
 * @param {AbortSignal} [signal]
 */
export function bind(key, action, signal) {
  if (signal?.aborted) return;
  const [bound, name] = key.startsWith("g ") ? [after, key.slice(2)] : [single, key];
  bound.set(name, action);
  signal?.addEventListener("abort", () => {
    if (bound.get(name) === action) bound.delete(name);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") return void single.get("Escape")?.(event);
  if (typing(event.target)) return;
  const second = waiting && Date.now() - waiting < SEQUENCE_MS;
  waiting = 0;
  if (!second && event.key === "g") {
    waiting = Date.now();
    return;
  }
  const action = second ? after.get(event.key) : single.get(event.key);
  if (action) {
    event.preventDefault();
    action(event);
  }
});

/** @param {EventTarget | null} element */
function typing(element) {
  return (
    element instanceof Element && element.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")
  );
}
