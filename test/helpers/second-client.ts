// Monitors of the reference on sockets: where a client comes just as its main loop begins, two of its threads accept him. The main
// thread gets nobody, and waits for a second client before it does anything else.

import { connect } from 'node:net';

const PATIENCE_MS = 2000;

/** The outcome of the first work with the monitor on `socket`. Others come and go there for as long as it takes. */
export async function withSecondClients<T>(socket: string, work: Promise<T>): Promise<T> {
  const timer = setInterval(() => {
    const second = connect(socket, () => second.destroy()).on('error', () => {});
  }, PATIENCE_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
  }
}
