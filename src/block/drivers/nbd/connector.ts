// Attempts to get a connection: one, or one after the other with pauses between them, until one succeeds or nobody wants it
// any more.

import {
  type Established,
  establish,
  type HandshakeTools,
  type ServerTarget,
} from './handshake.ts';

/** Milliseconds of the first pause, and of the longest; each is twice the one before. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 16_000;

export interface RetryOptions {
  /** Milliseconds for one attempt: a server that accepts and then says nothing must not be waited for forever. */
  readonly attemptMs?: number;
  /** What is to be done with a connection; an error from here is a failed attempt. */
  readonly adopt: (established: Established) => void;
  readonly onFailure: (error: unknown) => void;
}

/** Resolves when a connection was adopted; rejects with the signal's reason. */
export async function establishWithRetries(
  target: ServerTarget,
  tools: HandshakeTools,
  options: RetryOptions,
): Promise<void> {
  const { signal } = tools;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    try {
      const established = await establish(target, { ...tools, signal: limited(signal, options) });
      // It may have come at the last moment.
      if (signal.aborted) established.channel.close();
      else return options.adopt(established);
    } catch (error) {
      signal.throwIfAborted();
      options.onFailure(error);
    }
    await rest(pause, signal);
  }
}

function limited(signal: AbortSignal, { attemptMs }: RetryOptions): AbortSignal {
  return attemptMs === undefined
    ? signal
    : AbortSignal.any([signal, AbortSignal.timeout(attemptMs)]);
}

function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, milliseconds);
    function abort(): void {
      clearTimeout(timer);
      reject(signal.reason as Error);
    }
    signal.addEventListener('abort', abort, { once: true });
  });
}
