// Lines for the person who starts the daemon, on standard output. A terminal shows them at once. What else stands there may turn
// out to be a monitor's, at the end of the command line: only then is it known whether they may be written at all.

export interface Announcements {
  print(text: string): void;
  /** Writes at once, and what was held back before it. */
  printNow(text: string): void;
  /** Writes what was held back. */
  release(): void;
}

export function createAnnouncements(
  write: (text: string) => void,
  isTerminal: () => boolean,
): Announcements {
  let held = '';
  const release = (): void => {
    if (held !== '') write(held);
    held = '';
  };
  return {
    print(text) {
      if (isTerminal()) write(text);
      else held += text;
    },
    printNow(text) {
      held += text;
      release();
    },
    release,
  };
}
