// What is recommended to a session: comes in its items, goes out an answer, without items that the release lacks.

import { get, post, Problem } from "./api.js";
import { clampHistory } from "./limits.js";
import * as session from "./session.js";

/** The best items for the session, each with what brought it; null for an empty session. Of a session that is too long
 * the newest items are asked with, and the others not recommended all the same. */
export async function recommend(k, facts, signal) {
  const picked = session.getItems().map((item) => item.item_id);
  if (!picked.length) return null;
  const n = clampHistory(picked.length, facts);
  const [deny, history] = [picked.slice(0, -n), picked.slice(-n)];
  try {
    return await post(["recommend"], { history, k, why: true, ...(deny.length && { deny }) }, { signal });
  } catch (error) {
    if (error.status !== 404) throw error;
    const unknown = await findUnknown(history, signal);
    if (!unknown.length) throw error;
    session.remove(unknown); // whoever follows the session asks again
    throw new DOMException("the session has changed", "AbortError");
  }
}

/** Of ids those that the release lacks. */
async function findUnknown(ids, signal) {
  const known = await Promise.all(
    ids.map((id) =>
      get(["items", id], {}, { signal }).catch((error) => {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      }),
    ),
  );
  return ids.filter((_, n) => known[n] === null);
}
