// What is decided before a request is carried out: negotiation, refusals, rights.

import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { negotiate } from '../../../../src/export/fuse/init.ts';
import { nameOfOperation, operations, rowOf } from '../../../../src/export/fuse/operations.ts';
import {
  FATTR_ATIME,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_LOCKOWNER,
  FATTR_MODE,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FUSE_ASYNC_DIO,
  FUSE_DESTROY,
  FUSE_MAX_PAGES,
  FUSE_READ,
  FUSE_WRITE,
} from '../../../../src/export/fuse/protocol.ts';
import { refusalOf } from '../../../../src/export/fuse/request.ts';
import { refusal } from '../../../../src/export/fuse/setattr.ts';
import { newRequest } from '../../../../src/export/fuse/wire.ts';

describe('negotiate', () => {
  const offer = { major: 7, minor: 45, maxReadahead: 131072, flags: -1 };

  it('takes what it has a use for, and no more', () => {
    expect(negotiate(offer, 4096)).toEqual({
      maxReadahead: 131072,
      flags: 0x409029,
      maxBackground: 64,
      congestionThreshold: 48,
      maxWrite: 1048576,
      maxPages: 256,
    });
  });

  it('takes nothing that is not offered', () => {
    const { flags } = negotiate({ ...offer, flags: FUSE_MAX_PAGES }, 4096);
    expect(flags).toBe(FUSE_MAX_PAGES);
  });

  it('counts pages of the size that the system has', () => {
    expect(negotiate(offer, 65536).maxPages).toBe(16);
  });

  it('keeps to 32 pages where the kernel knows no more', () => {
    const reply = negotiate({ ...offer, flags: FUSE_ASYNC_DIO }, 4096);
    expect(reply).toMatchObject({ maxWrite: 131072, maxPages: 0 });
  });

  it('leaves a newer major version to the kernel, and refuses older ones', () => {
    expect(() => negotiate({ ...offer, major: 8, minor: 0 }, 4096)).not.toThrow();
    expect(() => negotiate({ ...offer, major: 6 }, 4096)).toThrow('major version');
    expect(() => negotiate({ ...offer, minor: 23 }, 4096)).toThrow('minor version');
    expect(() => negotiate({ ...offer, minor: 24 }, 4096)).not.toThrow();
  });
});

describe('refusalOf', () => {
  const request = { ...newRequest(), node: 1 };

  it.each([0, 5, 19, 47, 51, 4096, 0xffffffff])('opcode %i is not served', (opcode) => {
    expect(rowOf(opcode)).toBeUndefined();
    expect(refusalOf(rowOf(opcode), request, 1000)).toBe(errno.ENOSYS);
    expect(nameOfOperation(opcode)).toBe(`FUSE request ${opcode}`);
  });

  it.each(Object.entries(operations))('opcode %s needs all of its arguments', (opcode, row) => {
    expect(rowOf(Number(opcode))).toBe(row);
    expect(refusalOf(row, request, row.arguments)).toBe(0);
    if (row.arguments > 0) expect(refusalOf(row, request, row.arguments - 1)).toBe(errno.EIO);
  });

  it('there is one node', () => {
    for (const node of [0, 2, 2 ** 40]) {
      expect(refusalOf(rowOf(FUSE_READ), { ...request, node }, 40)).toBe(errno.ESTALE);
      expect(refusalOf(rowOf(FUSE_WRITE), { ...request, node }, 40)).toBe(errno.ESTALE);
    }
    expect(refusalOf(rowOf(FUSE_DESTROY), { ...request, node: 0 }, 0)).toBe(0);
  });
});

describe('setattr', () => {
  const ask = (valid: number, mode = 0): Parameters<typeof refusal>[0] => ({
    valid,
    mode,
    size: 0,
    uid: 0,
    gid: 0,
  });
  const open = { allowOther: true, writable: true };
  const closed = { allowOther: false, writable: true };
  const readOnly = { allowOther: true, writable: false };

  it.each([
    ['the length', ask(FATTR_SIZE), open, 0],
    ['the length, by descriptor', ask(FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER), open, 0],
    ['the length when it is read-only', ask(FATTR_SIZE), readOnly, errno.EACCES],
    ['a mode for the owner', ask(FATTR_MODE, 0o100600), closed, 0],
    ['a mode for others', ask(FATTR_MODE, 0o604), open, 0],
    ['a mode for others who cannot get there', ask(FATTR_MODE, 0o640), closed, errno.EPERM],
    ['writing when it is read-only', ask(FATTR_MODE, 0o600), readOnly, errno.EROFS],
    ['execution when it is read-only', ask(FATTR_MODE, 0o500), readOnly, 0],
    ['an owner', ask(FATTR_UID | FATTR_GID), open, 0],
    ['an owner who cannot get there', ask(FATTR_UID), closed, errno.ENOTSUP],
    ['a group that cannot get there', ask(FATTR_GID), closed, errno.ENOTSUP],
    ['a time', ask(FATTR_ATIME), open, errno.ENOTSUP],
    ['the time of now', ask(FATTR_MTIME_NOW), open, errno.ENOTSUP],
    ['the length and a time', ask(FATTR_SIZE | FATTR_CTIME), open, errno.ENOTSUP],
    ['what nobody knows', ask(2 ** 31), open, errno.ENOTSUP],
  ] as const)('%s', (_, asked, file, code) => {
    expect(refusal(asked, file)).toBe(code);
  });
});
