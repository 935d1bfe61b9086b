// Commands of char.json.

import { decodeBase64 } from '../../object/base64.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import { decodeLossily } from '../../qapi/modified-utf8.ts';
import type { DaemonServices } from '../daemon-services.ts';

export const charHandlers = {
  'query-chardev': (_args, { chardevs }) => chardevs.query(),
  'query-chardev-backends': (_args, { chardevs }) => chardevs.queryBackends(),
  'chardev-add': ({ id, backend }, { chardevs }) => chardevs.add(id, backend),
  'chardev-change': ({ id, backend }, { chardevs }) => chardevs.change(id, backend),
  'chardev-remove': ({ id }, { chardevs }) => chardevs.remove(id),
  'chardev-send-break': ({ id }, { chardevs }) => chardevs.sendBreak(id),

  'ringbuf-write'({ device, data, format = 'utf8' }, { chardevs }) {
    const ringbuf = chardevs.ringbuf(device);
    const text = modifiedUtf8(data);
    ringbuf.write(format === 'base64' ? decodeBase64(text) : text);
  },

  'ringbuf-read'({ device, size, format = 'utf8' }, { chardevs }) {
    const ringbuf = chardevs.ringbuf(device);
    if (size <= 0) throw new QmpError('size must be greater than zero');
    const bytes = ringbuf.read(size);
    return format === 'base64' ? bytes.toString('base64') : decodeLossily(bytes, 0, bytes.length);
  },
} satisfies Partial<CommandHandlers<DaemonServices>>;

/** Text as the reference has it in memory: a NUL is two bytes. */
function modifiedUtf8(text: string): Buffer {
  if (!text.includes('\0')) return Buffer.from(text);
  const bytes = Buffer.from(text);
  return Buffer.from(Array.from(bytes).flatMap((byte) => (byte === 0 ? [0xc0, 0x80] : [byte])));
}
