// An option's argument to a typed value: JSON when it starts with a brace, else KEY=VALUE,...; both end in what the schema
// allows, or in the reference's error.

import { QmpError } from '../qapi/errors.ts';
import type {
  BlockdevOptions,
  BlockExportOptions,
  MonitorOptions,
  NbdServerOptions,
  ObjectOptions,
} from '../qapi/generated/types.ts';
import { parseJson } from '../qapi/json-stream.ts';
import { coerceKeyval } from '../qapi/keyval-coercion.ts';
import { validationError } from '../qapi/validation-error.ts';
import { parseKeyval } from './keyval.ts';

/** The types that options have. */
export interface OptionTypes {
  BlockdevOptions: BlockdevOptions;
  BlockExportOptions: BlockExportOptions;
  MonitorOptions: MonitorOptions;
  NbdServerOptions: NbdServerOptions;
  ObjectOptions: ObjectOptions;
}

/** Throws QmpError. The types' model and the validators are large, so each is loaded when it is needed. */
export async function optionValue<Name extends keyof OptionTypes>(
  argument: string,
  typeName: Name,
  impliedKey: string | undefined,
): Promise<OptionTypes[Name]> {
  if (argument.startsWith('{')) {
    const value = parseJson(argument);
    const { validators } = await import('../qapi/generated/validators.js');
    const validate = validators[typeName];
    if (!validate(value)) throw validationError(validate.errors, value);
    return value as unknown as OptionTypes[Name];
  }
  const { values, help } = parseKeyval(argument, impliedKey);
  if (help) throw new QmpError('Help is not available for this option');
  const { typeModel } = await import('../qapi/generated/type-model.ts');
  return coerceKeyval(values, typeName, typeModel) as OptionTypes[Name];
}
