// What a command answers when it cannot be carried out.

/** QapiErrorClass of the schema; `GenericError` unless the reference uses another one in that place. */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'KVMMissingCap';

/** `desc` goes on the wire and to the command line; `hint` only to the command line, on a line of its own. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly class: QmpErrorClass;
  readonly hint: string | undefined;

  constructor(
    desc: string,
    options: { class?: QmpErrorClass; hint?: string; cause?: unknown } = {},
  ) {
    super(desc, options.cause === undefined ? undefined : { cause: options.cause });
    this.class = options.class ?? 'GenericError';
    this.hint = options.hint;
  }

  get desc(): string {
    return this.message;
  }
}
