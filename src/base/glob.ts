// GLib's simple patterns, which authz-list rules and --trace use: `*` stands for any characters, `?` for one; nothing else is
// special.

/** True when the whole of `text` fits `pattern`. Linear for each star: a hostile text cannot make it slow. */
export function globMatches(pattern: string, text: string): boolean {
  const wanted = Array.from(pattern);
  const given = Array.from(text);
  let star = -1;
  let resume = 0;
  let at = 0;
  let next = 0;
  while (next < given.length) {
    if (wanted[at] === '*') {
      star = at++;
      resume = next;
    } else if (at < wanted.length && (wanted[at] === '?' || wanted[at] === given[next])) {
      at++;
      next++;
    } else if (star >= 0) {
      at = star + 1;
      next = ++resume;
    } else {
      return false;
    }
  }
  while (wanted[at] === '*') at++;
  return at === wanted.length;
}
