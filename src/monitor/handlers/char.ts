// Commands of char.json.

import { decodeBase64 } from '../../object/base64.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { CommandHandlers } from '../../qapi/generated/commands.ts';
import { decodeLossily, encodeText } from '../../qapi/modified-utf8.ts';
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
    const text = encodeText(data);
    ringbuf.write(format === 'base64' ? decodeBase64(text) : text);
  },

  'ringbuf-read'({ device, size, format = 'utf8' }, { chardevs }) {
    const ringbuf = chardevs.ringbuf(device);
    if (size <= 0) throw new QmpError('size must be greater than zero');
    const bytes = ringbuf.read(size);
    return format === 'base64' ? bytes.toString('base64') : decodeLossily(bytes, 0, bytes.length);
  },
} satisfies Partial<CommandHandlers<DaemonServices>>;
