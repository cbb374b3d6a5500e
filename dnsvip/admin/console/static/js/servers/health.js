// @ts-check
// Health of the servers: as all live dispatchers report it, and the one on this machine directly.
import { h } from "../draw/dom.js";
import { label, tag } from "../draw/parts.js";

/**
 * `out`: an operator has taken the server out of service (down, maint), so that nobody asks whether it passes.
 * `weight` is the least that a dispatcher selects by.
 * @typedef {{ passing: boolean, out: string, load: number | null, weight: number | null, notes: string[] }} Health
 */

const OUT = new Set(["down", "maint"]);

/**
 * The health of each server ("POOL/NAME"); `notes` name the dispatchers whose checks fail, and why.
 * @param {any} now
 * @returns {Map<string, Health>}
 */
export function healthOf(now) {
  /** @type {Map<string, Health>} */
  const servers = new Map();
  const of = (/** @type {string} */ key) => {
    const server = servers.get(key) ?? { passing: true, out: "", load: null, weight: null, notes: [] };
    servers.set(key, server);
    return server;
  };
  for (const node of now.nodes.filter((/** @type {any} */ each) => each.live)) {
    for (const report of node.detail?.health ?? []) {
      const server = of(`${report.pool}/${report.name}`);
      server.load = report.load || server.load;
      server.weight = Math.min(server.weight ?? Infinity, report.weight);
      if (OUT.has(report.set)) server.out = report.set;
      else if (!report.passing) fails(server, `${node.name}: ${report.note || "health check fails"}`);
    }
  }
  for (const report of now.dispatcher?.servers ?? []) {
    const key = `${report.pool}/${report.name}`;
    if (OUT.has(report.set)) of(key).out = report.set;
    else if (now.dispatcher.unreachable?.includes(report.address)) fails(of(key), "not reachable from this machine");
    else if (report.healthy === false && of(key).passing) fails(of(key), "health check fails");
    else if (report.healthy === true) of(key);
  }
  return servers;
}

/**
 * @param {Health} server
 * @param {string} note
 */
function fails(server, note) {
  server.passing = false;
  server.notes.push(note);
}

/**
 * A server's health as a tag, or why none is known.
 * @param {Health | undefined} server
 * @param {string} [unknown]
 */
export function healthTag(server, unknown = "not checked") {
  if (!server) return label(unknown);
  if (server.out) return tag(server.out);
  const load =
    server.load === null || server.load === 100 ? null : h("span.faint", ` at ${server.load} % of its weight`);
  return h("span", { title: server.notes.join("\n") }, tag(server.passing ? "healthy" : "unhealthy"), load);
}
