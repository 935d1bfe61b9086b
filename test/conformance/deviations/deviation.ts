// A deliberate difference, and the answers that many of them have.

export interface Deviation {
  /** `area/case id` */
  readonly case: string;
  readonly ours: readonly string[] | { readonly matches: RegExp };
  readonly why: string;
}

export const deleted = (id: string): string =>
  `{"timestamp": {"seconds": 0, "microseconds": 0}, "event": "BLOCK_EXPORT_DELETED", "data": {"id": "${id}"}}`;
export const success = '{"return": {}}';
export const failure = (desc: string): string =>
  `{"error": {"class": "GenericError", "desc": "${desc}"}}`;

export const file = (more: string): string =>
  `{"driver":"file","node-name":"x","filename":"@DIR@/a.img",${more}}`;
