// @ts-check
// The nodes of the site as the live poll tells of them: who lives, who is gone since when, what is wrong.
import { clock, count } from "../draw/format.js";
import { tag } from "../draw/parts.js";

/**
 * Something wrong with the fleet, as the server judges it.
 * @typedef {{ kind: string, severity: string, text: string, since: number | null, node: string | null }} Trouble
 */

/**
 * A trouble in words, with the time since when.
 * @param {Trouble} trouble
 */
export function inWords({ text, since }) {
  return since ? `${text.replace(/\.$/, "")}, since ${clock(since)}.` : text;
}

/**
 * What a process does now, as a tag.
 * @param {any} node
 */
export function stateOf(node) {
  if (!node.live) return tag(node.stopped ? "stopped" : "silent");
  if (node.drained_at !== null) return tag("drained", "warn");
  return tag(node.behind ? "behind" : "live");
}

/**
 * How many nodes live, and whether all is well. A node lives while any of its processes does.
 * @param {any} now
 * @returns {{ live: number, all: number, note: string, good: boolean }}
 */
export function census(now) {
  /** @type {Map<string, boolean>} */
  const nodes = new Map();
  for (const node of now.nodes) {
    const key = `${node.name} ${node.roles}`;
    nodes.set(key, Boolean(nodes.get(key)) || node.live);
  }
  const live = [...nodes.values()].filter(Boolean).length;
  const [worst] = now.troubles;
  const behind = now.troubles.filter((/** @type {Trouble} */ each) => each.kind === "behind").length;
  const late = now.troubles.filter((/** @type {Trouble} */ each) => each.kind === "late").length;
  const gone = nodes.size - live;
  const note = gone
    ? `${count(gone, "node")} gone`
    : behind || late
      ? [behind ? `${count(behind, "node")} behind` : "", late ? `${late} late` : ""].filter(Boolean).join(", ")
      : worst
        ? worst.text
        : "all up to date";
  return { live, all: nodes.size, note, good: !worst };
}

/** @param {any} now */
export function dispatchers(now) {
  return now.nodes.filter((/** @type {any} */ node) => node.live && node.roles.includes("dispatch"));
}
