// What one client has done so far. Counted on the hot path, so nothing but additions.

import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../net/nbd/protocol.ts';

export class Traffic {
  /** Requests that were answered, whatever the answer. */
  requests = 0;
  /** Bytes of data of requests that succeeded. */
  bytesRead = 0;
  bytesWritten = 0;

  /** A request has succeeded. */
  succeeded(type: number, length: number): void {
    this.requests++;
    if (type === NBD_CMD_READ) this.bytesRead += length;
    else if (type === NBD_CMD_WRITE) this.bytesWritten += length;
  }

  /** A request was refused, or has failed. */
  failed(): void {
    this.requests++;
  }
}
