import { z } from 'zod';
import { parseTableName, type TableName } from './table-name.ts';

/** What the control plane needs to know beyond the wall: where a tenant's name goes, who its people are, what is counted. */

/** Columns of the tenant root that provisioning fills; what is not named is left to its default. */
export interface TenantProfile {
  readonly name?: string | undefined;
  /** Filled with the name in lower case, letters and digits joined by `-`. */
  readonly slug?: string | undefined;
  readonly plan?: string | undefined;
  readonly contactEmail?: string | undefined;
}

/** The application's own table of a tenant's people: provisioning adds the first admin to it. A scoped table. */
export interface PeopleTable {
  readonly table: TableName;
  readonly email: string;
  readonly name?: string | undefined;
  readonly role?: { readonly column: string; readonly admin: string; readonly member: string } | undefined;
}

/** A quota counts the rows of one scoped table, or adds up bytes: those a column tells, or for `*` those of the row as text. */
export type Quota = { readonly kind: 'rows'; readonly table: TableName } | { readonly kind: 'bytes'; readonly tables: ReadonlyMap<TableName, string> };

const column = z.string().min(1).max(63);

export const tableReference = z.string().transform((text, context) => {
  const parsed = parseTableName(text);
  if (parsed) return parsed;
  context.addIssue({ code: 'custom', message: `not a table name: ${JSON.stringify(text)}` });
  return z.NEVER;
});

export const profileConfig = z.strictObject({
  name: column.optional(),
  slug: column.optional(),
  plan: column.optional(),
  contactEmail: column.optional(),
});

export const peopleConfig = z.strictObject({
  table: tableReference,
  email: column,
  name: column.optional(),
  role: z.strictObject({ column, admin: z.string(), member: z.string() }).optional(),
});

/** The quota of API calls is Partywall's own and not counted in a table. */
export const apiCallsQuota = 'api_calls';

/** As the names of plans' limits and of JSON members. */
const quotaName = /^[a-z][a-z0-9_]{0,39}$/;

/** Either `rows` or `bytes`; checked by hand, because a union would not say what is wrong with the one that was meant. */
export const quotasConfig = z
  .record(z.string(), z.strictObject({ rows: tableReference.optional(), bytes: z.record(z.string(), column).optional() }))
  .transform((written, context): ReadonlyMap<string, Quota> => {
    const quotas = new Map<string, Quota>();
    for (const [name, { rows, bytes }] of Object.entries(written)) {
      const refuse = (message: string): void => context.addIssue({ code: 'custom', path: [name], message });
      const tables = Object.entries(bytes ?? {}).map(([text, of]) => ({ text, table: parseTableName(text), of }));
      if (!quotaName.test(name)) refuse('a name of a quota is made of lower-case letters, digits and _');
      if (name === apiCallsQuota) refuse(`${apiCallsQuota} is counted by Partywall itself`);
      if ((rows === undefined) === (bytes === undefined)) refuse('names either rows or bytes');
      for (const { text, table } of tables) if (!table) refuse(`not a table name: ${JSON.stringify(text)}`);
      if (rows !== undefined) quotas.set(name, { kind: 'rows', table: rows });
      else quotas.set(name, { kind: 'bytes', tables: new Map(tables.flatMap(({ table, of }) => (table ? [[table, of] as const] : []))) });
    }
    return quotas;
  });

/** The scoped tables that the control plane names, each with where it is named. */
export function namedTables(people: PeopleTable | undefined, quotas: ReadonlyMap<string, Quota>): { readonly table: TableName; readonly by: string }[] {
  const counted = [...quotas].flatMap(([name, quota]) =>
    (quota.kind === 'rows' ? [quota.table] : [...quota.tables.keys()]).map((table) => ({ table, by: `quotas.${name}` })),
  );
  return people ? [{ table: people.table, by: 'people' }, ...counted] : counted;
}
