// @ts-check
// Elements from plain values. Text only ever becomes text: nothing here, or anywhere else, makes HTML of a string.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | boolean | null | undefined | any[]} Child  what an element may hold */

/**
 * Attributes, properties and handlers by name; handlers start with "on".
 * @typedef {{
 *   onclick?: (event: MouseEvent) => unknown,
 *   onchange?: (event: Event) => unknown,
 *   oninput?: (event: Event) => unknown,
 *   onsubmit?: (event: SubmitEvent) => unknown,
 *   dataset?: Record<string, string | undefined>,
 *   style?: Partial<CSSStyleDeclaration>,
 *   [name: string]: unknown,
 * }} Props
 */

/**
 * The element that "input.mono" stands for.
 * @template {string} K
 * @typedef {K extends `${infer T}.${string}`
 *   ? (T extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[T] : HTMLElement)
 *   : (K extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[K] : HTMLElement)} ElementOf
 */

/** @typedef {(event: any) => unknown} Handler */

const SAID = new Set(["title", "aria-label", "placeholder"]);
/** Attributes that are told as text. */

/** @type {WeakMap<EventTarget, Map<string, Handler>>} */
const handlers = new WeakMap();

/** @type {WeakMap<Element, string | boolean>} */
const drawn = new WeakMap();

/**
 * An element: h("div.card", {id: "x", onclick: f}, "text", child, [children], null).
 * @template {string} K
 * @param {K} kind
 * @param {...(Props | Child)} rest
 * @returns {ElementOf<K>}
 */
export function h(kind, ...rest) {
  return /** @type {ElementOf<K>} */ (build(document.createElement(kind.split(".")[0] || "div"), kind, rest));
}

/**
 * The same for SVG.
 * @param {string} kind
 * @param {...(Props | Child)} rest
 * @returns {SVGElement}
 */
export function s(kind, ...rest) {
  return /** @type {SVGElement} */ (build(document.createElementNS(SVG, kind.split(".")[0] ?? ""), kind, rest));
}

/**
 * @param {HTMLElement | SVGElement} element
 * @param {string} kind
 * @param {(Props | Child)[]} rest
 */
function build(element, kind, rest) {
  const classes = kind.split(".").slice(1);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  const [first, ...others] = rest;
  const hasProps = first !== null && typeof first === "object" && !(first instanceof Node) && !Array.isArray(first);
  if (hasProps) Object.entries(first).forEach(([name, value]) => assign(element, name, value));
  append(element, /** @type {Child[]} */ (hasProps ? others : rest));
  return element;
}

/**
 * @param {any} element
 * @param {string} name
 * @param {any} value
 */
function assign(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) on(element, name.slice(2), value);
  else if (name === "class")
    element.setAttribute("class", [element.getAttribute("class"), value].filter(Boolean).join(" "));
  else if (name === "dataset" || name === "style") Object.assign(element[name], value);
  else if (name === "value" || name === "checked") draw(element, value);
  else element.setAttribute(name, value === true ? "" : SAID.has(name) ? seen(String(value)) : value);
}

/**
 * Call `handler` on an event; an element has one handler for each type, so that a later one takes its place.
 * @param {Element} element
 * @param {string} type
 * @param {Handler} handler
 */
export function on(element, type, handler) {
  const own = handlersOf(element);
  if (!own.has(type)) element.addEventListener(type, dispatch);
  own.set(type, handler);
  handlers.set(element, own);
}

/** @param {Event} event */
function dispatch(event) {
  return event.currentTarget && handlers.get(event.currentTarget)?.get(event.type)?.(event);
}

/**
 * The handlers of an element by type.
 * @param {Element} element
 * @returns {Map<string, Handler>}
 */
export function handlersOf(element) {
  return handlers.get(element) ?? new Map();
}

/**
 * Show a value in a control, and remember it: what is different from it has been typed.
 * @param {any} control
 * @param {string | number | boolean} value
 */
export function draw(control, value) {
  const property = typeof value === "boolean" ? "checked" : "value";
  control[property] = value;
  drawn.set(control, control[property]);
}

/**
 * Take what is in a control for what was drawn, as it has been saved.
 * @param {HTMLInputElement} control
 */
export function settled(control) {
  drawn.set(control, control.value);
}

/**
 * What a control was last drawn with; undefined where it is no control.
 * @param {Element} control
 */
export function drawnIn(control) {
  return drawn.get(control);
}

/**
 * What nobody would see as what it is: it controls something, turns the direction of what follows, takes no room, or
 * stands with many others over one letter and on what is above it.
 */
const UNSEEN = /[^\P{C}\t\n]|[\u2028\u2029]|(?<=\p{M}{4})\p{M}/gu;

/**
 * A text of others as a page may show it, each byte of what is not seen as \DDD, as the command line does.
 * @param {string} text
 */
export function seen(text) {
  return text.replace(UNSEEN, (letter) =>
    [...new TextEncoder().encode(letter)].map((byte) => `\\${String(byte).padStart(3, "0")}`).join(""),
  );
}

/**
 * Append children; null, undefined and booleans are nothing, arrays are taken apart.
 * @template {Element} T
 * @param {T} element
 * @param {Child[]} children
 * @returns {T}
 */
export function append(element, children) {
  for (const child of /** @type {Child[]} */ (children.flat(Infinity))) {
    if (child === null || child === undefined || typeof child === "boolean") continue;
    element.append(child instanceof Node ? child : seen(String(child)));
  }
  return element;
}

/**
 * Put children in place of what an element holds.
 * @template {Element} T
 * @param {T} element
 * @param {...Child} children
 * @returns {T}
 */
export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

let last = 0;

/** A fresh id, for labels and descriptions. */
export function fresh(stem = "id") {
  last += 1;
  return `${stem}-${last}`;
}
