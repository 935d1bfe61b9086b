// The object type `authz-simple`: allows exactly one identity.

import type { Authorizer } from './authz.ts';
import type { UserObjectType } from './user-object.ts';

export interface AuthzSimple extends Authorizer {
  identity: string;
}

export const authzSimple: UserObjectType<'authz-simple', AuthzSimple> = {
  name: 'authz-simple',
  parent: 'authz',
  properties: [
    {
      name: 'identity',
      type: 'string',
      get: ({ identity }) => identity,
      set: (state, value) => {
        state.identity = value as string;
      },
    },
  ],
  create: ({ id, identity }, { trace }): AuthzSimple => ({
    identity,
    allows(who) {
      trace.qauthz_simple_is_allowed.log({ id, identity: who, expected: this.identity });
      return who === this.identity;
    },
  }),
};
