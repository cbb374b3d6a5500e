// The HTTP API by the session's cookie. Every error is a Problem (RFC 9457); a lost session is told to who listens.

export const ROOT = "/api/v1";

const session = { csrf: "" };
const lost = new Set();

/** An answer that is none: `status` 0 where no answer came at all; `errors` are {where, message}. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || "The server's answer cannot be read.");
    this.status = status;
    this.type = (body.type || "").split(":").pop();
    this.errors = body.errors || [];
    this.retryAfter = Number(body.retryAfter) || 0;
  }
}

/** Call `listener` when the session has ended. */
export function onLost(listener) {
  lost.add(listener);
}

/** Note the CSRF token of the session that was just opened or found. */
export function useSession(csrf) {
  session.csrf = csrf;
}

/** One request: {status, data, etag, generation}; throws Problem. Options: body, headers, etag, signal, text. */
export async function call(method, path, options = {}) {
  const { body, headers = {}, etag, signal, text } = options;
  const sent = { Accept: text ? "text/dns, application/problem+json" : "application/json", ...headers };
  if (session.csrf && method !== "GET") sent["X-CSRF-Token"] = session.csrf;
  if (body !== undefined && !sent["Content-Type"]) sent["Content-Type"] = "application/json";
  if (etag) sent["If-Match"] = etag;
  const payload = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  const answer = await reach(path.startsWith("/") ? path : `${ROOT}/${path}`, {
    method,
    headers: sent,
    body: payload,
    signal,
  });
  const data = await read(answer, text);
  if (!answer.ok) throw refused(answer, data);
  return {
    status: answer.status,
    data,
    etag: answer.headers.get("ETag"),
    generation: answer.headers.get("Dnsvip-Generation"),
  };
}

/** The data of a GET. */
export async function get(path, options) {
  return (await call("GET", path, options)).data;
}

/** A path under the API from its parts, each escaped. */
export function at(...parts) {
  return parts.map(encodeURIComponent).join("/");
}

/** A query string of what is set in `values`, with its question mark. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

async function reach(url, options) {
  try {
    return await fetch(url, { ...options, credentials: "same-origin", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer." });
  }
}

async function read(answer, text) {
  const type = answer.headers.get("Content-Type") || "";
  if (answer.status === 204) return null;
  if (!type.includes("json")) return text ? answer.text() : {};
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

function refused(answer, data) {
  const problem = new Problem(answer.status, { ...data, retryAfter: answer.headers.get("Retry-After") });
  if (answer.status === 401 && session.csrf) {
    session.csrf = "";
    lost.forEach((listener) => listener(problem));
  }
  return problem;
}
