// The object type `secret_keyring`: a secret that the kernel keeps, named by its serial number.

import { IoError } from '../base/errors.ts';
import { QmpError } from '../qapi/errors.ts';
import { type SecretCommon, secretFrom, secretProperties } from './secret.ts';
import type { UserObjectType } from './user-object.ts';

export interface SecretKeyring extends SecretCommon {
  serial: number;
}

export const secretKeyring: UserObjectType<'secret_keyring', SecretKeyring> = {
  name: 'secret_keyring',
  parent: 'secret_common',
  properties: [
    ...secretProperties,
    {
      name: 'serial',
      type: 'int32_t',
      get: ({ serial }) => serial,
      set: (state, value) => {
        state.serial = checked(value as number);
      },
    },
  ],
  create: async (options, { objects }) => {
    const serial = checked(options.serial);
    return { serial, ...secretFrom(await payloadOf(serial), options, objects) };
  },
};

function checked(serial: number): number {
  if (serial === 0) throw new QmpError("'serial' should not be equal to 0");
  return serial;
}

async function payloadOf(serial: number): Promise<Buffer> {
  const { readKey } = await import('../sys/keyring.ts');
  const failure = `Unable to read serial key ${(serial >>> 0).toString(16).padStart(8, '0')}`;
  let payload: Buffer | undefined;
  try {
    payload = readKey(serial);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(`${failure}: ${error.reason}`, { cause: error });
  }
  if (payload === undefined) throw new QmpError(failure);
  return payload;
}
