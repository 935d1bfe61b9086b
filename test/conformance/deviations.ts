// Where ours differs from the reference on purpose: the case, what ours answers, and why. The suite fails when an entry is
// not needed (ours answers as the reference does) or names a case that does not exist.

export interface Deviation {
  /** `area/case id` */
  readonly case: string;
  readonly ours: readonly string[] | { readonly matches: RegExp };
  readonly why: string;
}

export const deviations: readonly Deviation[] = [];
