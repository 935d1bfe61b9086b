// Which names the schema language allows, and when two of them are too alike.

import { SchemaError } from './errors.ts';
import type { SourceInfo } from './source-info.ts';

/** [vendor prefix][x-] stem. */
const NAME = /^(?:__[a-z0-9.-]+_)?(?:x-)?(?<stem>[a-z][a-z0-9_-]*)$/i;

/**
 * Two names with the same key cannot live side by side: a generator for another language, in which '-' and '.' are spelled
 * '_', could not tell them apart.
 */
export function clashKey(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, '_');
}

function stemOf(name: string, info: SourceInfo, source: string): string {
  const stem = NAME.exec(name)?.groups?.['stem'];
  // 'q_' is kept for implicit types.
  if (stem === undefined || clashKey(name).startsWith('q_')) {
    throw new SchemaError(info, `${source} has an invalid name`);
  }
  return stem;
}

export interface LowerCaseExceptions {
  readonly upperCase?: boolean;
  readonly underscore?: boolean;
}

/** Commands, members, values and features: lower case with '-'. */
export function checkLowerName(
  name: string,
  info: SourceInfo,
  source: string,
  allow: LowerCaseExceptions = {},
): void {
  const stem = stemOf(name, info, source);
  const upper = allow.upperCase !== true && /[A-Z]/.test(stem);
  const underscore = allow.underscore !== true && stem.includes('_');
  if (upper || underscore) {
    throw new SchemaError(info, `the name of ${source} must not use upper case or '_'`);
  }
}

/** Events: upper case with '_'. */
export function checkUpperName(name: string, info: SourceInfo, source: string): void {
  if (/[a-z-]/.test(stemOf(name, info, source))) {
    throw new SchemaError(info, `the name of ${source} must not use lower case or '-'`);
  }
}

/** Types: CamelCase. */
export function checkCamelName(name: string, info: SourceInfo, source: string): void {
  if (!/^[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*$/.test(stemOf(name, info, source))) {
    throw new SchemaError(info, `the name of ${source} must use CamelCase`);
  }
  // FooList is how the reference's generator names ['Foo'].
  if (name.endsWith('List'))
    throw new SchemaError(info, `the name of ${source} must not end in 'List'`);
}

/** 'nbd-server-start' and 'BLOCK_EXPORT_DELETED' to 'NbdServerStart' and 'BlockExportDeleted'. */
export function camelCase(name: string): string {
  return name
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== '')
    .map((word) => {
      const lower = /[a-z]/.test(word) ? word : word.toLowerCase();
      return lower.charAt(0).toUpperCase() + lower.slice(1);
    })
    .join('');
}
