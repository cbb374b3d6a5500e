// @ts-check
// Redrawing without replacing: elements that are drawn again stay the same elements. So focus, caret, selection and
// what somebody has typed cannot be lost, whatever arrives from the server meanwhile.
import { append, draw, drawnIn, handlersOf, on } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

const OWN = new Set(["aria-busy", "open", "style"]);
/** Attributes that belong to the element as it lives, not to what is drawn; style goes by CSSOM, as CSP demands. */

/**
 * Make `place` hold `content`. An element is taken to be the same as an earlier one of its tag that has its `data-key`,
 * or stands at its position among those without a key. Controls inside keyed rows keep what was typed into them.
 * @param {Element} place
 * @param {...Child} content
 */
export function reconcile(place, ...content) {
  const fresh = append(document.createElement("div"), content);
  adopt(place, fresh);
}

/**
 * @param {Element} place
 * @param {Element} fresh
 */
function adopt(place, fresh) {
  const pools = new Map();
  for (const child of place.childNodes) {
    const key = identity(child);
    pools.set(key, [...(pools.get(key) ?? []), child]);
  }
  arrange(
    place,
    [...fresh.childNodes].map((node) => kept(pools.get(identity(node))?.shift(), node)),
  );
}

/** @param {Node} node */
function identity(node) {
  return node instanceof HTMLElement ? `${node.nodeName} ${node.dataset.key ?? ""}` : node.nodeName;
}

/**
 * The earlier node, brought up to date; the fresh one where there is none.
 * @param {ChildNode | undefined} old
 * @param {ChildNode} fresh
 */
function kept(old, fresh) {
  if (old instanceof Element && fresh instanceof Element) {
    attributes(old, fresh);
    listeners(old, fresh);
    adopt(old, fresh);
    value(old, fresh);
  } else if (old) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  }
  return old ?? fresh;
}

/**
 * Bring nodes into order without moving the one that holds the focus: the others move around it.
 * @param {Element} place
 * @param {ChildNode[]} nodes
 */
function arrange(place, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...place.childNodes]) if (!wanted.has(child)) child.remove();
  const focused = nodes.find((node) => node.contains(document.activeElement));
  let next = place.firstChild;
  for (const node of nodes) {
    while (node === focused && next && next !== node) {
      const passed = next;
      next = next.nextSibling;
      place.append(passed);
    }
    if (node === next) next = next.nextSibling;
    else place.insertBefore(node, next);
  }
}

/**
 * @param {Element} old
 * @param {Element} fresh
 */
function attributes(old, fresh) {
  for (const { name } of [...old.attributes])
    if (!OWN.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value: text } of fresh.attributes)
    if (!OWN.has(name) && old.getAttribute(name) !== text) old.setAttribute(name, text);
  if (old instanceof HTMLElement && fresh instanceof HTMLElement && old.style.cssText !== fresh.style.cssText)
    old.style.cssText = fresh.style.cssText;
}

/**
 * @param {Element} old
 * @param {Element} fresh
 */
function listeners(old, fresh) {
  const next = handlersOf(fresh);
  for (const type of handlersOf(old).keys()) if (!next.has(type)) on(old, type, () => {});
  for (const [type, handler] of next) on(old, type, handler);
}

/** What controls show when they are left, as somebody is in them now. @type {WeakMap<Element, string | boolean>} */
const waiting = new WeakMap();

/**
 * A control takes the value that is drawn only while nobody is in it and nothing else has been typed.
 * @param {any} old
 * @param {Element} fresh
 */
function value(old, fresh) {
  const now = drawnIn(fresh);
  if (now === undefined) return;
  if (old !== document.activeElement) return show(old, now);
  if (!waiting.has(old)) old.addEventListener("blur", left, { once: true });
  waiting.set(old, now);
}

/** @param {FocusEvent} event */
function left({ currentTarget }) {
  const control = /** @type {HTMLInputElement} */ (currentTarget);
  show(control, waiting.get(control) ?? "");
  waiting.delete(control);
}

/**
 * @param {any} control
 * @param {string | boolean} now
 */
function show(control, now) {
  const typed = typeof now === "boolean" ? control.checked : control.value;
  if (typed === drawnIn(control) || typed === now) draw(control, now);
}
