// Asking the service: comes in an address, goes out its answer; what it refuses is thrown as a Problem that says why.

const MOST_KEPT = 200;
const RELEASE = "/release";
const TOKEN = "recsys_cl token";
const DOUBT_MS = 5_000;
const kept = new Map(); // answers of the live release, by address
const pictures = new Map(); // object URLs, by address; only where a token is needed
let release = null;
let doubted = { version: null, until: 0 };

/** What the service refused, or that it cannot be reached (status 0). */
export class Problem extends Error {
  constructor(status, detail, seconds = null) {
    super(detail.charAt(0).toUpperCase() + detail.slice(1) + (/[.!?]$/.test(detail) ? "" : "."));
    this.status = status;
    this.seconds = seconds;
  }
}

/** `/items/a%2Fb/neighbors?k=10` of ["items", "a/b", "neighbors"] and {k: 10}; lists repeat their name. */
export function address(parts, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") search.append(name, one);
    }
  }
  const text = search.toString();
  return `/${parts.map(encodeURIComponent).join("/")}${text && "?"}${text}`;
}

/** GET an answer as JSON; one of the live release is kept until another goes live, unless it is to be fresh. */
export async function get(parts, query = {}, { signal, fresh = false } = {}) {
  const path = address(parts, query);
  signal?.throwIfAborted();
  if (kept.has(path) && !fresh) return kept.get(path);
  const answer = await (await send(path, { signal })).json();
  await notice(answer.release, path === RELEASE);
  if (!fresh) {
    if (kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value);
    kept.set(path, answer);
  }
  signal?.throwIfAborted(); // the view may have gone, with the release before
  return answer;
}

/** POST JSON. */
export async function post(parts, body, { signal } = {}) {
  const headers = { "content-type": "application/json" };
  const options = { method: "POST", body: JSON.stringify(body), headers, signal };
  const answer = await (await send(address(parts), options)).json();
  await notice(answer.release);
  signal?.throwIfAborted();
  return answer;
}

/** GET bytes; while they are being made, ask again as the service says. */
export async function getBytes(parts, { signal } = {}) {
  const path = address(parts);
  if (kept.has(path)) return kept.get(path);
  for (let n = 1; ; n += 1) {
    try {
      const response = await send(path, { signal });
      await notice(response.headers.get("release"));
      const bytes = await response.arrayBuffer();
      kept.set(path, bytes);
      signal?.throwIfAborted();
      return bytes;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 503 || n >= 120) throw error;
      await new Promise((done) => setTimeout(done, 1000 * (error.seconds ?? 1)));
    }
  }
}

/** Where an `img` finds a picture: its address, or where that needs the token, what was fetched from it. */
export function findPicture(path) {
  if (!sessionStorage.getItem(TOKEN)) return Promise.resolve(path);
  if (!pictures.has(path)) {
    if (pictures.size >= MOST_KEPT) {
      const [oldest, url] = pictures.entries().next().value;
      pictures.delete(oldest);
      url.then(URL.revokeObjectURL, () => {});
    }
    pictures.set(
      path,
      send(path, {})
        .then((response) => response.blob())
        .then(URL.createObjectURL),
    );
  }
  return pictures.get(path);
}

/** Remember the token, for as long as this tab is open. */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function send(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. See whether `recsys-cl serve` is running, then try again.");
  }
  if (response.ok) return response;
  const seconds = Number(response.headers.get("retry-after")) || null;
  const told = await response.json().catch(() => ({}));
  throw new Problem(response.status, told.detail ?? `The service answered ${response.status}.`, seconds);
}

/** An answer names its release. Another one than before is believed where the service says it of itself: elsewhere it
 * may be an attribute of an item, or the word of another service behind the same address. */
async function notice(version, sure = release === null) {
  if (!version || version === release) return;
  if (!sure) {
    if (version === doubted.version && performance.now() < doubted.until) return;
    doubted = { version, until: performance.now() + DOUBT_MS };
    version = (await (await send(RELEASE, {})).json()).release;
    if (version === release) return;
  }
  const before = release;
  release = version;
  kept.clear();
  dispatchEvent(new CustomEvent("release", { detail: { version, before } }));
}
