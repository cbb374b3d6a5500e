// @ts-check
// The HTTP API by the session's cookie. Every error is a Problem (RFC 9457); listeners learn of a lost session.

export const ROOT = "/api/v1";

const session = { csrf: "" };

/** @type {Set<(problem: Problem) => unknown>} */
const lost = new Set();

/** @typedef {{ body?: unknown, headers?: Record<string, string>, etag?: string | null, signal?: AbortSignal }} CallOptions */
/** @typedef {{ status: number, data: any, etag: string | null, generation: string | null }} Answered */

/** @typedef {import("api").components["schemas"]} Schemas  of what the API takes and answers */

/** An answer that is none: `status` 0 where no answer came at all; `errors` are {where, message}. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {Record<string, any>} body
   */
  constructor(status, body) {
    super(body.detail || body.title || "The server's answer cannot be read.");
    this.status = status;
    this.type = (body.type || "").split(":").pop();
    /** @type {{ where: string, message: string }[]} */
    this.errors = body.errors || [];
    this.retryAfter = Number(body.retryAfter) || 0;
  }
}

/**
 * Call `listener` when the session has ended.
 * @param {(problem: Problem) => unknown} listener
 */
export function onLost(listener) {
  lost.add(listener);
}

const others = new BroadcastChannel("dnsvip session");

/**
 * Call `listener` when another tab has signed out, or in as somebody else: the cookie, which all tabs share, is that of
 * another session then, and what this tab shows is of the one before.
 * @param {() => unknown} listener
 */
export function onOther(listener) {
  others.onmessage = ({ data }) => {
    if (session.csrf && data !== session.csrf) listener();
  };
}

/** @type {Set<(text: string) => unknown>} */
const warned = new Set();

/**
 * Call `listener` with each warning of an answer: what was done, but is probably a mistake.
 * @param {(text: string) => unknown} listener
 */
export function onWarning(listener) {
  warned.add(listener);
}

/** @param {Response} answer */
function warningsOf(answer) {
  const text = answer.headers.get("Dnsvip-Warning"); // JSON strings; the browser has joined them with commas
  if (!text) return [];
  try {
    return JSON.parse(`[${text}]`);
  } catch {
    return [text];
  }
}

/**
 * Note the CSRF token of the session that was just opened or found.
 * @param {string} csrf
 */
export function useSession(csrf) {
  session.csrf = csrf;
  others.postMessage(csrf);
}

/**
 * One request: {status, data, etag, generation}; throws Problem.
 * @param {string} method
 * @param {string} path
 * @param {CallOptions} options
 * @returns {Promise<Answered>}
 */
export async function call(method, path, options = {}) {
  const { body, headers = {}, etag, signal } = options;
  /** @type {Record<string, string>} */
  const sent = { Accept: "application/json", ...headers };
  if (session.csrf && method !== "GET") sent["X-CSRF-Token"] = session.csrf;
  if (body !== undefined && !sent["Content-Type"]) sent["Content-Type"] = "application/json";
  if (etag) sent["If-Match"] = etag;
  const payload = body === undefined || typeof body === "string" ? (body ?? null) : JSON.stringify(body);
  const answer = await reach(path.startsWith("/") ? path : `${ROOT}/${path}`, {
    method,
    headers: sent,
    body: payload,
    signal: signal ?? null,
  });
  const data = await read(answer);
  if (!answer.ok) throw refused(answer, data);
  for (const text of warningsOf(answer)) warned.forEach((listener) => listener(text));
  return {
    status: answer.status,
    data,
    etag: answer.headers.get("ETag"),
    generation: answer.headers.get("Dnsvip-Generation"),
  };
}

/**
 * The data of a GET.
 * @param {string} path
 * @param {CallOptions} [options]
 * @returns {Promise<any>}
 */
export async function get(path, options) {
  return (await call("GET", path, options)).data;
}

const MOST_PAGES = 50;

/**
 * All objects of a list, page after page.
 * @param {string} path
 * @param {CallOptions} [options]
 * @returns {Promise<any[]>}
 */
export async function all(path, options) {
  const items = [];
  /** @type {string | null} */
  let next = path;
  for (let page = 0; next && page < MOST_PAGES; page += 1) {
    const data = await get(next, options);
    items.push(...data.items);
    next = data.next?.startsWith(ROOT) ? data.next : null;
  }
  return items;
}

/** Names in a path: browsers would take a part away that is a dot, and others stand for something else. */
const NAMES = new Map([
  [".", "=2E"],
  ["import", "=69mport"],
  ["export", "=65xport"],
]);

/**
 * A path under the API from its parts, each escaped.
 * @param {...string} parts
 */
export function at(...parts) {
  return parts.map((part) => NAMES.get(part) ?? encodeURIComponent(part)).join("/");
}

/**
 * A query string of what is set in `values`, with its question mark.
 * @param {Record<string, string | number | null | undefined>} values
 */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length ? `?${new URLSearchParams(set.map(([key, value]) => [key, String(value)]))}` : "";
}

/**
 * @param {string} url
 * @param {RequestInit} options
 */
async function reach(url, options) {
  try {
    return await fetch(url, { ...options, credentials: "same-origin", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer." });
  }
}

/** @param {Response} answer */
async function read(answer) {
  const type = answer.headers.get("Content-Type") || "";
  if (answer.status === 204) return null;
  if (!type.includes("json")) return {};
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

/**
 * @param {Response} answer
 * @param {any} data
 */
function refused(answer, data) {
  const problem = new Problem(answer.status, { ...data, retryAfter: answer.headers.get("Retry-After") });
  if (answer.status === 401 && session.csrf) {
    session.csrf = "";
    lost.forEach((listener) => listener(problem));
  }
  return problem;
}
