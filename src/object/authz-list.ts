// The object type `authz-list`: rules tried in order, the first that matches decides; a policy for when none does.

import { globMatches } from '../base/glob.ts';
import type { QAuthZListPolicy, QAuthZListRule } from '../qapi/generated/types.ts';
import type { JsonObject, JsonValue } from '../qapi/json-value.ts';
import type { Authorizer } from './authz.ts';
import type { ObjectContext, UserObjectType } from './user-object.ts';

export interface AuthzList extends Authorizer {
  policy: QAuthZListPolicy;
  rules: readonly QAuthZListRule[];
}

export const authzList: UserObjectType<'authz-list', AuthzList> = {
  name: 'authz-list',
  parent: 'authz',
  properties: [
    {
      name: 'policy',
      type: 'QAuthZListPolicy',
      get: ({ policy }) => policy,
      set: (state, value) => {
        state.policy = value as QAuthZListPolicy;
      },
    },
    {
      name: 'rules',
      type: 'QAuthZListRule',
      get: ({ rules }) => rules.map(ruleAsJson),
      set: (state, value) => {
        state.rules = value as readonly QAuthZListRule[];
      },
    },
  ],
  create: ({ id, policy = 'deny', rules = [] }, context) => listOf(id, { policy, rules }, context),
};

/** A list that answers by itself, for those that have one inside. */
export function listOf(
  id: string,
  { policy, rules }: Pick<AuthzList, 'policy' | 'rules'>,
  { trace }: Pick<ObjectContext, 'trace'>,
): AuthzList {
  return {
    policy,
    rules,
    allows(who) {
      for (const rule of this.rules) {
        const { match, format = 'exact' } = rule;
        trace.qauthz_list_check_rule.log({ id, identity: who, rule: match, format });
        if (format === 'exact' ? match === who : globMatches(match, who)) {
          return rule.policy === 'allow';
        }
      }
      trace.qauthz_list_default_policy.log({ id, identity: who, policy: this.policy });
      return this.policy === 'allow';
    },
  };
}

function ruleAsJson({ match, policy, format }: QAuthZListRule): JsonValue {
  const object: JsonObject = Object.create(null);
  object['match'] = match;
  object['policy'] = policy;
  if (format !== undefined) object['format'] = format;
  return object;
}
