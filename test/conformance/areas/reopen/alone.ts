// One node at a time.

import { ask, type Case, scene, verbatim } from '../../case.ts';
import { again, del, node, query } from '../../node-commands.ts';
import { MIB } from '../../sizes.ts';
import { file, nul } from './steps.ts';

export const badArguments: Case[] = [
  ask('blockdev-reopen'),
  ask('blockdev-reopen', {}),
  ask('blockdev-reopen', { options: {} }),
  ask('blockdev-reopen', { options: 5 }),
  ask('blockdev-reopen', { options: null }),
  ask('blockdev-reopen', { options: [5] }),
  ask('blockdev-reopen', { options: [[]] }),
  ask('blockdev-reopen', { options: [{}] }),
  ask('blockdev-reopen', { options: [nul(), {}] }),
  ask('blockdev-reopen', { options: [{ driver: 'nope' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'file' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'raw', 'node-name': 'x' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'null-co' }] }),
  ask('blockdev-reopen', { options: [{ driver: 'null-co', 'node-name': '' }] }),
  ask('blockdev-reopen', { options: [nul({ 'node-name': 'nope' })] }),
  ask('blockdev-reopen', { options: [nul({ 'node-name': 5 })] }),
  ask('blockdev-reopen', { options: [nul({ bogus: 5 })] }),
  ask('blockdev-reopen', { options: [nul({ 'read-only': 'yes' })] }),
  ask('blockdev-reopen', { options: [], bogus: 1 }),
];

/** Adds a node, reopens it in several ways with a look after each, and takes it away. */
const ways = (id: string, first: object, ...options: object[]): Case => {
  const name = (first as { 'node-name': string })['node-name'];
  const steps = options.flatMap((each) => [again(each), query]);
  return scene(id, node(first), ...steps, del(name));
};
/** The same, where only the answers matter. */
const tries = (id: string, first: object, ...options: object[]): Case => {
  const name = (first as { 'node-name': string })['node-name'];
  return scene(id, node(first), ...options.map((each) => again(each)), query, del(name));
};

const settings: readonly object[] = [
  {},
  { 'read-only': true },
  { 'read-only': false },
  { 'auto-read-only': true },
  { 'read-only': true, 'auto-read-only': true },
  { cache: { direct: true } },
  { cache: { 'no-flush': true } },
  { cache: { direct: false, 'no-flush': false } },
  { cache: {} },
  { discard: 'unmap' },
  { 'detect-zeroes': 'on' },
  { 'detect-zeroes': 'unmap' },
  { discard: 'unmap', 'detect-zeroes': 'unmap' },
  { discard: 'ignore', 'detect-zeroes': 'unmap' },
  { discard: 'ignore' },
  { 'force-share': true },
  { 'force-share': false },
  { 'force-share': true, 'read-only': true },
];

export const alone: Case[] = [
  ways('settings of null-co', nul({ size: MIB }), ...settings.map((s) => nul({ size: MIB, ...s }))),
  ways('settings of file', file(), ...settings.map((s) => file(s))),
  tries('driver', nul(), nul({ driver: 'null-aio' }), file({ 'node-name': 'n' })),
  tries(
    'driver of a file',
    file(),
    { ...file(), driver: 'host_device' },
    nul({ 'node-name': 'f' }),
  ),
  tries(
    'the way of requests of a file, and its cache',
    file({ aio: 'threads' }),
    file({ aio: 'native' }),
    file({ 'drop-cache': false }),
    file({ aio: 'threads', 'drop-cache': false }),
    file({ aio: 'threads', 'drop-cache': true }),
    file({ aio: 'threads' }),
    file({ aio: 'io_uring', 'drop-cache': true }),
  ),
  tries(
    'native requests of a file, past the cache or not',
    file({ aio: 'native', cache: { direct: true } }),
    file({ aio: 'native' }),
    file({ aio: 'native', cache: { direct: true } }),
    file(),
  ),
  tries(
    'options of null-co that were not given',
    nul(),
    nul({ size: 1024 * MIB }),
    nul({ 'latency-ns': 0 }),
    nul({ 'read-zeroes': false }),
    nul({ 'read-zeroes': true, size: 5, 'latency-ns': 7 }),
  ),
  tries(
    'options of null-co that were given',
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul(),
    nul({ size: MIB }),
    nul({ size: MIB, 'latency-ns': 5 }),
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul({ size: 2 * MIB, 'latency-ns': 5, 'read-zeroes': true }),
    nul({ size: MIB, 'latency-ns': 6, 'read-zeroes': true }),
    nul({ size: MIB, 'latency-ns': 5, 'read-zeroes': false }),
    nul({ size: verbatim('1048576.0'), 'latency-ns': 5, 'read-zeroes': true }),
  ),
  tries(
    'options of file',
    file(),
    file({ filename: '@DIR@/b.img' }),
    file({ filename: '@DIR@/./a.img' }),
    file({ filename: '' }),
    file({ locking: 'auto' }),
    file({ locking: 'off' }),
    file({ aio: 'threads' }),
  ),
  tries(
    'options of file that were given',
    file({ locking: 'off', aio: 'threads' }),
    file(),
    file({ locking: 'off' }),
    file({ aio: 'threads' }),
    file({ locking: 'off', aio: 'threads' }),
    file({ locking: 'on', aio: 'threads' }),
  ),
  tries(
    'force-share that was given',
    file({ 'force-share': true, 'read-only': true }),
    file({ 'read-only': true }),
    file({ 'read-only': true, 'force-share': true }),
    file({ 'read-only': true, 'force-share': false }),
    file({ 'force-share': true }),
  ),
  tries(
    'settings that were given',
    nul({ 'read-only': true, cache: { direct: true }, discard: 'unmap', 'detect-zeroes': 'unmap' }),
    nul(),
    nul({ 'detect-zeroes': 'unmap' }),
    nul({ discard: 'ignore' }),
    nul({ 'detect-zeroes': 'unmap' }),
  ),
];
