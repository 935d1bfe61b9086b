// Why a node's length cannot be changed: the reference's text for commands, and the errno for those who have no use for words.

import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';

export function resizeError(text: string, code: number): QmpError {
  return new QmpError(text, { cause: new IoError(code, { syscall: 'truncate' }) });
}
