// Elements from plain values. Text only ever becomes text: nothing here, or anywhere else, makes HTML of a string.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("div.card", {id: "x", onclick: f}, "text", child, [children], null). */
export function h(kind, ...rest) {
  return build(document.createElement(kind.split(".")[0] || "div"), kind, rest);
}

/** The same for SVG. */
export function s(kind, ...rest) {
  return build(document.createElementNS(SVG, kind.split(".")[0]), kind, rest);
}

function build(element, kind, rest) {
  const classes = kind.split(".").slice(1);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  const [first] = rest;
  const isProps = first !== null && typeof first === "object" && !(first instanceof Node) && !Array.isArray(first);
  if (isProps) Object.entries(rest.shift()).forEach(([name, value]) => assign(element, name, value));
  append(element, rest);
  return element;
}

function assign(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "class")
    element.setAttribute("class", [element.getAttribute("class"), value].filter(Boolean).join(" "));
  else if (name === "dataset" || name === "style") Object.assign(element[name], value);
  else if (name === "value" || name === "checked") element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

/** Append children; null, undefined and false are nothing, arrays are taken apart. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
  return element;
}

/** Put children in place of what an element holds. */
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
