// @ts-check
// The sign-in page, and the session: a token is exchanged for a cookie that scripts cannot read, and then forgotten.
import { call, useSession } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { setRights } from "../api/rights.js";
import { here } from "./router.js";

/**
 * @typedef {{
 *   csrf: string,
 *   actor: string,
 *   scopes: import("../api/rights.js").Scope[],
 *   narrowed_by: Record<string, string>,
 * }} Session
 */

const PATH = "/console/session";

/** Why a sign-in by the provider failed, by the code that the server sends the browser back with. @type {Record<string, string>} */
const FAILED = {
  denied: "The sign-in was cancelled at the provider.",
  expired: "This sign-in was not begun here, or took too long. Sign in again, from this page.",
  provider: "The provider did not answer as it should; the node’s log has more. A token works meanwhile.",
  token: "What the provider says of you cannot be believed; the node’s log has more.",
  roles: "You are known to the provider, but none of your roles gives rights here. Ask who administers it.",
  busy: "Too many sign-ins at once, or too many that failed. Try again in a minute.",
  full: "As many are signed in as can be at once. Try again when somebody has signed out.",
  database: "The database is unavailable, so nobody can sign in now.",
};

/**
 * The session that this browser has, null where it has none.
 * @returns {Promise<Session | null>}
 */
export async function resume() {
  const { data } = await call("GET", `${PATH}/here`);
  if (!data.signed_in) return null;
  try {
    const found = await call("GET", PATH);
    return known(found.data);
  } catch (problem) {
    if (/** @type {import("../api/api.js").Problem} */ (problem).status === 401) return null;
    throw problem;
  }
}

/**
 * End the session; where the provider ends its own, if it has one.
 * @returns {Promise<string | null>}
 */
export async function signOut() {
  const { data } = await call("DELETE", PATH);
  useSession("");
  return data?.provider ?? null;
}

/** The words of a failed sign-in that the address tells of, which it is cleared of. */
function failure() {
  const { parts, query } = here();
  if (parts[0] !== "signin") return "";
  history.replaceState(null, "", "#/");
  return FAILED[query["why"] ?? ""] ?? "";
}

/**
 * A way for users to sign in, where the node knows a provider: to the page that the address names then.
 * @param {HTMLElement} place
 */
async function offer(place) {
  try {
    const { data } = await call("GET", `${PATH}/here`);
    if (!data.users) return;
    const { start, label } = data.users;
    const link = h("a.button.main-action", { href: start, id: "users" }, `Sign in with ${label}`);
    link.addEventListener("click", () => {
      link.setAttribute("href", `${start}?${new URLSearchParams({ to: location.hash.slice(2) })}`);
    });
    fill(place, link, h("p.signin-or", "or with a token"));
  } catch {
    // the token's form says what is wrong
  }
}

/**
 * Show the sign-in page in `root` until somebody is signed in; `why` says why it is shown.
 * @param {HTMLElement} root
 * @param {string} [why]
 * @returns {Promise<Session>}
 */
export function askIn(root, why) {
  return new Promise((resolve) => {
    const error = h("p.error", { role: "alert", id: "token-error" }, why || failure());
    const users = h("div.signin-users");
    offer(users);
    const input = h("input", {
      type: "password",
      id: "token",
      name: "token",
      autocomplete: "current-password",
      spellcheck: "false",
      required: true,
      "aria-describedby": "token-error",
      placeholder: "dnsvip_…",
    });
    const button = h("button.button.main-action", { type: "submit" }, "Sign in");
    const name = h("input.sr-only", {
      type: "text",
      name: "username",
      autocomplete: "username",
      value: "dnsvip",
      tabindex: "-1",
      "aria-hidden": "true",
    }); // for password managers
    const form = h("form.stack", name, h("div.field", h("label", { for: "token" }, "API token"), input, error), button);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      error.textContent = "";
      try {
        const session = await signIn(input.value.trim());
        input.value = "";
        resolve(session);
      } catch (problem) {
        error.textContent = reasonOf(problem);
        input.setAttribute("aria-invalid", "true");
        button.disabled = false;
        input.select();
      }
    });
    document.title = "Sign in · dnsvip";
    const brand = h("div.brand", h("img", { src: "/console/icon.svg", alt: "" }), "dnsvip");
    const note = h(
      "p.signin-note",
      "The first start writes its token to the node’s standard output, or to the file named by ",
      h("code", "--token-file"),
      ". To create another: ",
      h("code", "dnsvip tokens create NAME --config NODE.toml"),
    );
    fill(
      root,
      h(
        "main.signin",
        h(
          "div.signin-card",
          brand,
          h("h1", "Sign in"),
          h("p", "The token is exchanged for a session and stored nowhere in this browser."),
          users,
          form,
          note,
        ),
      ),
    );
    input.focus();
  });
}

/** @param {string} token */
async function signIn(token) {
  const headers = { Authorization: `Bearer ${token}` };
  const { data } = await call("POST", PATH, { headers });
  return known(data);
}

/**
 * Note what the session needs for changes, and what it may do.
 * @param {Session} session
 */
function known(session) {
  useSession(session.csrf);
  setRights(session.scopes, session.narrowed_by);
  return session;
}

/** @param {any} problem */
function reasonOf(problem) {
  if (problem.status === 401) return "This token is not known here.";
  if (problem.status === 429) return `Too many wrong tokens from here. ${problem.message}`;
  return problem.message;
}
