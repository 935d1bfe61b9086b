// block_resize.

import { ask, type Case, type CommandPair, type Step, scene } from '../../case.ts';
import { del, node, query } from '../../node-commands.ts';
import { KIB, MIB } from '../../sizes.ts';
import { nbdExport, removeExport } from './steps.ts';

const inspect = (file: string): Step => ({ do: 'inspect', file });

const resize = (args: object): CommandPair => ['block_resize', args];
export const resizing: Case[] = [
  ask('block_resize'),
  ask('block_resize', { size: 512 }),
  ask('block_resize', { 'node-name': 'f' }),
  ask('block_resize', { 'node-name': 'nope', size: 512 }),
  ask('block_resize', { device: 'nope', size: 512 }),
  ask('block_resize', { device: 'f', size: 512 }),
  ask('block_resize', { device: 'f', 'node-name': 'f', size: 512 }),
  ask('block_resize', { device: '', 'node-name': 'f', size: 512 }),
  ask('block_resize', { 'node-name': 'f', size: -1 }),
  ask('block_resize', { 'node-name': 'f', size: 'x' }),
  ask('block_resize', { 'node-name': 'f', size: 1.5 }),
  ask('block_resize', { 'node-name': 'f', size: 512, bogus: 1 }),
  ask('block_resize', { 'node-name': 'n', size: 512 }),
  ask('block_resize', { 'node-name': 'ro', size: 512 }),
  scene(
    'grow and shrink a file',
    resize({ 'node-name': 'f', size: 20 * MIB }),
    query,
    inspect('a.img'),
    resize({ 'node-name': 'f', size: 64 * KIB }),
    inspect('a.img'),
    query,
  ),
  scene(
    'a size that is no multiple of 512',
    resize({ 'node-name': 'f', size: 1000 }),
    inspect('a.img'),
    query,
  ),
  scene('to nothing', resize({ 'node-name': 'f', size: 0 }), inspect('a.img'), query),
  scene('same size', resize({ 'node-name': 'f', size: 0 })),
  scene(
    'through raw',
    node({ driver: 'raw', 'node-name': 'r', file: 'f' }),
    resize({ 'node-name': 'r', size: MIB }),
    query,
    inspect('a.img'),
  ),
  scene('below raw', resize({ 'node-name': 'f', size: 2 * MIB }), query, del('r')),
  scene(
    'raw with an offset',
    node({ driver: 'raw', 'node-name': 'r', file: 'f', offset: 512 }),
    resize({ 'node-name': 'r', size: MIB }),
    inspect('a.img'),
    del('r'),
  ),
  scene(
    'raw with a size',
    node({ driver: 'raw', 'node-name': 'r', file: 'f', size: 512 }),
    resize({ 'node-name': 'r', size: MIB }),
    del('r'),
  ),
  scene(
    'an exported node',
    nbdExport({ 'node-name': 'f' }),
    resize({ 'node-name': 'f', size: MIB }),
    removeExport,
    resize({ 'node-name': 'f', size: MIB }),
  ),
  scene(
    'a node exported read-only',
    nbdExport({ 'node-name': 'f', writable: false }),
    resize({ 'node-name': 'f', size: MIB }),
    removeExport,
  ),
  scene(
    'the child of an exported node',
    node({ driver: 'raw', 'node-name': 'r', file: 'f' }),
    nbdExport({ 'node-name': 'r' }),
    resize({ 'node-name': 'f', size: MIB }),
    removeExport,
    del('r'),
  ),
];
