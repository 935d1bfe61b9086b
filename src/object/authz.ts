// What the authz object types have in common: they say whether an identity may in.

import { QmpError } from '../qapi/errors.ts';
import type { ObjectLookup } from './user-object.ts';

export interface Authorizer {
  /** `identity` is what the peer proved to be: for TLS the distinguished name of its certificate. */
  allows(identity: string): boolean;
}

/**
 * Asks the authz object `id` about `identity`.
 *
 * @throws QmpError when there is no such object
 */
export function isAuthorized(id: string, identity: string, objects: ObjectLookup): boolean {
  const object = objects.find(id);
  if (object === undefined) throw new QmpError(`Cannot find QAuthZ object ID ${id}`);
  if (object.type.parent !== 'authz') {
    throw new QmpError(`Object '${id}' is not a QAuthZ subclass`);
  }
  return (object.state as Authorizer).allows(identity);
}
