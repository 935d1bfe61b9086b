// A request that goes on after it was taken: what its end has to know. One is used again for the next request, so that many
// requests under way cost neither promises nor closures.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { Completion } from '../../block/completion.ts';
import { NbdRequest } from '../../net/nbd/wire.ts';
import type { CommandRow } from './commands.ts';

/** What of a connection's input a request keeps until it has ended. */
export class KeptRequest {
  request = new NbdRequest();
  /** The buffer of its own that its data are in. */
  direct: IoBuffer | undefined = undefined;
  /** The part of the input that they are in. */
  pinned: IoBuffer | undefined = undefined;
}

/** To be given to what carries the request out. */
export class UnderWay extends KeptRequest implements Completion {
  row: CommandRow | undefined = undefined;
  /** Another server has it, and may answer at once. */
  isQuick = false;
  /** Of memory that it takes. */
  bytes = 0;
  readonly #ended: (request: UnderWay, error: unknown) => void;

  constructor(ended: (request: UnderWay, error: unknown) => void) {
    super();
    this.#ended = ended;
  }

  completed(error: unknown): void {
    this.#ended(this, error);
  }
}
