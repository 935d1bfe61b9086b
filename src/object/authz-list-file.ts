// The object type `authz-list-file`: an authz-list that is kept in a file, and read again when the file changes.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, strerror } from '../base/errno.ts';
import { QmpError } from '../qapi/errors.ts';
import type { AuthZListProperties } from '../qapi/generated/types.ts';
import { parseJson } from '../qapi/json-stream.ts';
import { isJsonObject } from '../qapi/json-value.ts';
import type { Authorizer } from './authz.ts';
import { type AuthzList, listOf } from './authz-list.ts';
import type { ObjectContext, UserObjectType } from './user-object.ts';

export interface AuthzListFile extends Authorizer {
  filename: string;
  refresh: boolean;
  /** Undefined while the file holds no valid list. */
  list: AuthzList | undefined;
  /** Ends the watch, if there is one. */
  unwatch: (() => void) | undefined;
}

export const authzListFile: UserObjectType<'authz-list-file', AuthzListFile> = {
  name: 'authz-list-file',
  parent: 'authz',
  properties: [
    {
      name: 'filename',
      type: 'string',
      get: ({ filename }) => filename,
      set: (state, value) => {
        state.filename = value as string;
      },
    },
    {
      name: 'refresh',
      type: 'bool',
      get: ({ refresh }) => refresh,
      set: (state, value) => {
        state.refresh = value as boolean;
      },
    },
  ],
  create: async ({ filename, refresh = true }, context) => {
    const state: AuthzListFile = {
      filename,
      refresh,
      list: await readList(filename, context),
      unwatch: undefined,
      allows(who) {
        return this.list?.allows(who) ?? false;
      },
    };
    if (refresh) state.unwatch = await watched(state, context);
    return state;
  },
  destroy: ({ unwatch }) => unwatch?.(),
};

async function watched(state: AuthzListFile, context: ObjectContext): Promise<() => void> {
  const directory = path.dirname(state.filename);
  if (directory === '.') throw new QmpError('Filename must be an absolute path');
  const name = path.basename(state.filename);
  const { watchFiles } = await import('./file-watch.ts');
  const reload = async (): Promise<void> => {
    try {
      state.list = await readList(state.filename, context);
    } catch (error) {
      state.list = undefined;
      context.log.error(error instanceof Error ? error.message : String(error));
    }
    const { filename, list } = state;
    context.trace.qauthz_list_file_refresh.log({ filename, success: list === undefined ? 0 : 1 });
  };
  return watchFiles(
    directory,
    (changed) => changed === name,
    () => void reload(),
  );
}

/** The list in the file. Throws QmpError. */
async function readList(filename: string, context: ObjectContext): Promise<AuthzList> {
  context.trace.qauthz_list_file_load.log({ filename });
  const value = parseJson(textOf(filename));
  if (!isJsonObject(value)) {
    throw new QmpError(`File '${filename}' must contain a JSON object`);
  }
  const options = { ...value, 'qom-type': 'authz-list', id: 'list' };
  const { validators } = await import('../qapi/generated/validators.js');
  const { validationError } = await import('../qapi/validation-error.ts');
  const validate = validators.ObjectOptions;
  if (!validate(options)) throw validationError(validate.errors, options);
  const { policy = 'deny', rules = [] } = options as AuthZListProperties;
  return listOf(filename, { policy, rules }, context);
}

function textOf(filename: string): string {
  try {
    return readFileSync(filename, 'utf8');
  } catch (error) {
    const reason = strerror(errnoOf(error));
    const text = `Unable to read '${filename}': Failed to open file “${filename}”: ${reason}`;
    throw new QmpError(text, { cause: error });
  }
}
