// Whether writes are durable when they are done, as the driver has switched it. The disk fails every flush, so a write that
// takes one fails, too.

import { describe, expect, it } from 'vitest';
import { CONFIG_LENGTH, FEATURE, readConfig } from './bring-up.ts';
import { startDevice, startQueue, type TestDevice } from './device.ts';
import { config, REQUEST } from './messages.ts';
import { ourSide, type Side, serveDisk, sides } from './serve.ts';
import { BLK_S, SECTOR } from './virtio-blk.ts';
import { Virtqueue } from './virtqueue.ts';

const { OK, IOERR } = BLK_S;
const WCE = 32;
const WRITE_BACK = 1;
const WRITE_THROUGH = 0;
const RESET_DEVICE = 34;

/** The socket of the disk whose flushes fail. */
async function serveFailing(side: Side): Promise<string> {
  const { daemon } = await serveDisk(side);
  await daemon.qmp.execute('blockdev-add', {
    driver: 'blkdebug',
    'node-name': 'failing',
    image: 'node',
    'inject-error': [{ event: 'none', iotype: 'flush', errno: 5 }],
  });
  const socket = daemon.path('failing.sock');
  await daemon.qmp.execute('block-export-add', {
    type: 'vhost-user-blk',
    id: 'failing',
    'node-name': 'failing',
    addr: { type: 'unix', path: socket },
    writable: true,
  });
  return socket;
}

async function switchTo({ frontend }: TestDevice, mode: number): Promise<void> {
  await frontend.acknowledged(REQUEST.SET_CONFIG, config(WCE, Buffer.from([mode])));
}

async function modeOf({ frontend }: TestDevice): Promise<number | undefined> {
  const bytes = await readConfig(frontend);
  expect(bytes).toHaveLength(CONFIG_LENGTH);
  return bytes?.[WCE];
}

/** The status of a write, which fails if it is to be durable. */
async function written({ disk }: Pick<TestDevice, 'disk'>): Promise<number> {
  return (await disk.write(0, Buffer.alloc(SECTOR, 1))).status;
}

describe.each(sides)('the cache mode: $name', (side) => {
  const test = it.skipIf(side.missing !== undefined);

  test('makes writes durable, or leaves that to flushes', async () => {
    const device = await startDevice(await serveFailing(side));
    await switchTo(device, WRITE_BACK);
    expect(await written(device)).toBe(OK);
    expect((await device.disk.flush()).status).toBe(IOERR);
    await switchTo(device, WRITE_THROUGH);
    expect(await written(device)).toBe(IOERR);
    expect((await device.disk.writeZeroes(0, SECTOR)).status).toBe(IOERR);
    expect((await device.disk.read(0, SECTOR)).status).toBe(OK);
    await switchTo(device, WRITE_BACK);
    expect(await written(device)).toBe(OK);
  });

  test('is kept for the next frontend', async () => {
    const socket = await serveFailing(side);
    const first = await startDevice(socket);
    // The first write of all is one that the reference never flushes.
    expect(await written(first)).toBe(OK);
    await switchTo(first, WRITE_THROUGH);
    first.close();
    const second = await startDevice(socket);
    expect(await modeOf(second)).toBe(WRITE_THROUGH);
    expect(await written(second)).toBe(IOERR);
  });
});

describe('the cache mode', () => {
  it('is what the configuration says before anybody switches it', async () => {
    const device = await startDevice(await serveFailing(ourSide));
    expect(await modeOf(device)).toBe(WRITE_BACK);
    expect(await written(device)).toBe(OK);
  });

  it('is write-through for a driver that can neither flush nor switch, and not for the next one', async () => {
    const socket = await serveFailing(ourSide);
    const plain = await startDevice(socket, { without: FEATURE.FLUSH | FEATURE.CONFIG_WCE });
    expect(await written(plain)).toBe(IOERR);
    plain.close();
    const flushes = await startDevice(socket, { without: FEATURE.CONFIG_WCE });
    expect(await written(flushes)).toBe(OK);
  });

  it('is the first one again for a driver that has reset the device', async () => {
    const device = await startDevice(await serveFailing(ourSide));
    const { frontend, memory } = device;
    await switchTo(device, WRITE_THROUGH);
    expect(await frontend.acknowledged(RESET_DEVICE, Buffer.alloc(0))).toBe(0n);
    expect(await modeOf(device)).toBe(WRITE_BACK);
    const queue = new Virtqueue(memory, { indirect: true, eventIndex: true });
    expect(await written({ disk: await startQueue(frontend, queue) })).toBe(OK);
  });
});
