import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { rowOfCommand } from '../../../../src/export/nbd/commands.ts';
import { wireErrorOf } from '../../../../src/export/nbd/errno.ts';
import { refusal, refusalBeforePayload } from '../../../../src/export/nbd/request.ts';
import { NbdRequest } from '../../../../src/net/nbd/wire.ts';

const target = { size: 4096, readOnly: false, structuredReply: true };

function request(fields: Partial<NbdRequest>): NbdRequest {
  return Object.assign(new NbdRequest(), fields);
}

function refused(fields: Partial<NbdRequest>, on = target): string | undefined {
  const made = request(fields);
  return refusal(rowOfCommand(made.type), made, on);
}

describe('refusal', () => {
  it('lets a request up to the very end pass, and none beyond', () => {
    expect(refused({ offset: 0, length: 4096 })).toBeUndefined();
    expect(refused({ offset: 4096, length: 0 })).toBeUndefined();
    expect(refused({ offset: 4096, offsetLow: 4096, length: 1 })).toBe(
      'operation past EOF; From: 4096, Len: 1, Size: 4096',
    );
  });

  it('tells a write to a read-only export before anything else is wrong with it', () => {
    const fields = { type: 1, flags: 0xff, offset: 9999, length: 9999 };
    expect(refused(fields, { ...target, readOnly: true })).toBe('Export is read-only');
  });

  it('tells the end before the flags, and the flags before the type', () => {
    const beyond = { offset: 8192, offsetLow: 8192, length: 1 };
    expect(refused({ type: 99, flags: 0xff, ...beyond })).toContain('operation past EOF');
    expect(refused({ type: 99, flags: 0xff, length: 1 })).toBe(
      'unsupported flags for command <unknown> (got 0xff)',
    );
    expect(refused({ type: 99, flags: 1, length: 1 })).toBe('invalid request type (99) received');
  });

  it('knows DF only with structured replies', () => {
    expect(refused({ flags: 4, length: 1 })).toBeUndefined();
    expect(refused({ flags: 4, length: 1 }, { ...target, structuredReply: false })).toBe(
      'unsupported flags for command read (got 0x4)',
    );
  });
});

describe('refusalBeforePayload', () => {
  it.each([
    [0, true],
    [1, true],
    [3, false],
    [4, false],
    [5, true],
    [6, false],
    [7, false],
    [9, false],
  ])('of command %i over 32 MiB: %s', (type, limited) => {
    const limit = 32 * 1024 * 1024;
    const over = request({ type, length: limit + 1 });
    expect(refusalBeforePayload(rowOfCommand(type), request({ type, length: limit }))).toBe(
      undefined,
    );
    expect(refusalBeforePayload(rowOfCommand(type), over)).toBe(
      limited ? 'len (33554433 ) is larger than max len (33554432)' : undefined,
    );
  });
});

describe('wireErrorOf', () => {
  it.each([
    ['EPERM', 1],
    ['EROFS', 1],
    ['EIO', 5],
    ['ENOMEM', 12],
    ['EINVAL', 22],
    ['ENOSPC', 28],
    ['EFBIG', 28],
    ['EDQUOT', 28],
    ['EOVERFLOW', 75],
    ['ENOTSUP', 95],
    ['ESHUTDOWN', 108],
    ['ENOENT', 22],
    ['EAGAIN', 22],
  ] as const)('%s is %i on the wire', (name, expected) => {
    expect(wireErrorOf(errno[name])).toBe(expected);
  });
});
