// What a node is called in answers and messages: a filename that opens the same image, or `json:` with the options that do.

import type { BlockdevOptions } from '../qapi/generated/types.ts';
import { writeJson } from '../qapi/json-writer.ts';
import type { BlockNode } from './block-node.ts';
import { type FlatOptions, flatten } from './flat-options.ts';
import { asSpelled } from './option-spelling.ts';

/** Longest filename the reference keeps, with its terminating NUL. */
const MAX_FILENAME = 4096;

/** `image.filename` of query-named-block-nodes. */
export function filenameOf(node: BlockNode): string {
  const exact = exactFilenameOf(node);
  if (exact !== undefined) return exact;
  const json = `json:${writeJson(fullOptions(node))}`;
  if (json.length < MAX_FILENAME) return json;
  return `${json.slice(0, MAX_FILENAME - 4)}...`;
}

/** A filename that alone opens the same node, or undefined. */
export function exactFilenameOf(node: BlockNode): string | undefined {
  const { driver } = node;
  if (driver.exactFilename !== undefined) return driver.exactFilename(node);
  if (driver.kind === 'protocol') return option(node, 'filename');
  const file = node.file?.node;
  const plain = driver.kind === 'format' && !hasStrongOptions(node) && !isBackingOverridden(node);
  if (!plain || file === undefined) return undefined;
  const isProtocol = file.driver.kind === 'protocol' || file.driver.isProtocol === true;
  return isProtocol ? exactFilenameOf(file) : undefined;
}

/** The options that decide what the node shows, its children's inside. */
function fullOptions(node: BlockNode): Record<string, unknown> {
  const all: Record<string, unknown> = { driver: node.driver.name };
  const given = node.options as BlockdevOptions & Record<string, unknown>;
  for (const name of ['filename', ...node.driver.strongOptions]) {
    if (name.endsWith('.')) Object.assign(all, optionsBelow(given, name));
    else if (given[name] !== undefined) all[name] = asSpelled(given, name);
  }
  const { childList } = node.driver;
  if (childList !== undefined) {
    all[childList.name] = childList.of(node).map((child) => fullOptions(child.node));
    return all;
  }
  // The reference prepends children, so the youngest comes first; its hash order decides what is seen anyway.
  for (const child of node.children.toReversed()) {
    if (child !== node.backing) all[child.name] = fullOptions(child.node);
  }
  if (isBackingOverridden(node)) {
    const { backing } = node;
    all['backing'] = backing === undefined ? null : fullOptions(backing.node);
  }
  return all;
}

/** All options in `prefix` (`set-state.`), which stay flat names. */
function optionsBelow(given: Record<string, unknown>, prefix: string): FlatOptions {
  const name = prefix.slice(0, -1);
  if (given[name] === undefined) return {};
  // In the reference's order of adding, which shows where names meet in its hash table.
  return Object.fromEntries(Object.entries(flatten({ [name]: given[name] })).reverse());
}

function isBackingOverridden(node: BlockNode): boolean {
  return node.driver.backingOverridden?.(node) === true;
}

function hasStrongOptions(node: BlockNode): boolean {
  const given = node.options as BlockdevOptions & Record<string, unknown>;
  return node.driver.strongOptions.some((name) => given[name] !== undefined);
}

function option(node: BlockNode, name: string): string | undefined {
  const value = (node.options as BlockdevOptions & Record<string, unknown>)[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}
