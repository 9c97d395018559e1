// What the operator lets one request ask for: comes in what is wanted, goes out what may be asked. A service that does
// not say its limits may refuse what goes beyond them, and says why.

/** How many answers to ask for. facts: of the live release, or null. */
export function clampK(wanted, facts) {
  return Math.min(wanted, facts?.limits?.most_k ?? wanted);
}

/** How many items of a session, the newest, to ask with. */
export function clampHistory(n, facts) {
  return Math.min(n, facts?.limits?.most_history ?? n);
}
