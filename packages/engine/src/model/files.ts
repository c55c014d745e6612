import { z } from 'zod';

/**
 * Files that tenants upload: each tenant's below a prefix of its own in a folder or a bucket. The prefix names the tenant as one whole part of the
 * path, so that no tenant's prefix begins another's: that of `a` is `a/`, and `ab` is not below it.
 */
export type FileRules = ReadonlyMap<string, FileRule>;

export interface FileRule {
  /** `file:///srv/uploads`, `s3://bucket/prefix?endpoint=...`, or `env:NAME`: what that variable of the environment says. */
  readonly store: string;
  /** `{tenant}/`, `uploads/{tenant}/files/`. */
  readonly prefix: string;
}

const namePattern = /^[a-z][a-z0-9_-]{0,62}$/;
const storePattern = /^(?:file:\/\/\/|s3:\/\/|env:[A-Za-z_][A-Za-z0-9_]*$)/;
const prefixPattern = /^(?:(?!\.\.?\/)[^/{}\0\\]+\/)*\{tenant\}\/(?:(?!\.\.?\/)[^/{}\0\\]+\/)*$/;
const charactersMax = 500;
const rulesMax = 20;

const rule = z.strictObject({
  store: z.string().max(charactersMax).regex(storePattern, 'a store is file:///path, s3://bucket/prefix or env:NAME'),
  prefix: z.string().max(charactersMax).regex(prefixPattern, 'a prefix has {tenant} once, as a whole part, and ends with a slash: uploads/{tenant}/'),
});

/** As a person writes it: `{ uploads: { store: 'file:///srv/uploads', prefix: '{tenant}/' } }`. */
export const filesConfig = z.record(z.string(), rule).transform((written, context): FileRules => {
  const rules = Object.entries(written);
  if (rules.length > rulesMax) context.addIssue({ code: 'custom', message: `more than ${rulesMax} places of files` });
  for (const [name, { store, prefix }] of rules) {
    if (!namePattern.test(name)) context.addIssue({ code: 'custom', path: [name], message: 'a name is of a-z, 0-9, dash and underscore' });
    for (const [other, { store: otherStore, prefix: otherPrefix }] of rules) {
      if (name < other && store === otherStore && reaches(prefix, otherPrefix)) {
        context.addIssue({ code: 'custom', path: [name], message: `its prefixes and those of ${other} lie in each other: a tenant could reach another's` });
      }
    }
  }
  return new Map(rules);
});

/** Whether a tenant's prefix of one may lie in a tenant's prefix of the other. Side by side, or the same, they may be. */
function reaches(left: string, right: string): boolean {
  const [leftHead = '', leftTail = ''] = left.split('{tenant}');
  const [rightHead = '', rightTail = ''] = right.split('{tenant}');
  if (leftHead !== rightHead) return leftHead.startsWith(rightHead) || rightHead.startsWith(leftHead);
  return leftTail.startsWith(rightTail) || rightTail.startsWith(leftTail);
}
