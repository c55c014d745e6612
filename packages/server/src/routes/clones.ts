import {
  awaitOperation,
  backupSource,
  beginClone,
  type CloneReport,
  cloneTenant,
  type Durable,
  findBackup,
  holdsTenant,
  liveSource,
  type Operation,
  PartywallError,
  withOpened,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { hashPassword } from '../people/better-auth.ts';
import { passwordLength } from '../people/people-options.ts';
import { filledText, reason, tenantParams, text } from '../schemas.ts';
import type { ArchiveOptions } from './backups.ts';
import { operationAnswer, operationSchema } from './tenants-schemas.ts';

const tags = ['tenants'];
const nameCharactersMax = 200;
const emailCharactersMax = 254;
/** A plan reads the tenant's rows. */
const handlerTimeout = 3_600_000;

const email = text(emailCharactersMax).pipe(z.email());
const body = z.strictObject({
  name: filledText(nameCharactersMax).describe('Of the new tenant'),
  plan: text(40).min(1).optional().describe("Default: the source's"),
  contactEmail: email.optional().describe("Default: the source's"),
  admin: z
    .strictObject({
      name: filledText(nameCharactersMax),
      email,
      password: text(passwordLength.max).min(passwordLength.min).describe('Not looked at where the person can sign in already'),
    })
    .optional()
    .describe('Who signs in to it first; without, nobody does until somebody is appointed'),
  from: text(100).min(1).default('live').describe('live, a backup, `latest`, or a time: the last backup before'),
  dryRun: z.boolean().default(false).describe('Only say how each column is filled'),
  reason: reason.optional(),
});

const plan = z.object({
  dryRun: z.literal(true),
  source: z.string(),
  from: z.string().describe('What was read'),
  tables: z.array(z.object({ table: z.string(), rows: z.int(), filled: z.array(z.object({ column: z.string(), how: z.string() })) })),
  notes: z.array(z.string()).describe('What a person should look at'),
  triggers: z.array(z.string()),
});

interface CloneOptions {
  readonly durable: Durable;
  readonly archive?: ArchiveOptions | undefined;
}

/** Makes new tenants with the rows of others. */
export function registerClones(instance: FastifyInstance, { durable, archive }: CloneOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const configured = (): ArchiveOptions => {
    if (archive) return archive;
    throw new PartywallError('backup_refused', 'opening the archive: this server has none', { hint: 'start it with PARTYWALL_ARCHIVE' });
  };

  app.post(
    '/api/admin/tenants/:id/clone',
    {
      config: { access: 'super_admin' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'cloneTenant',
        summary: 'Make a new tenant with the rows of another',
        description:
          'As it is now, or as a backup has it; with new ids, and references that follow. 202 with the operation to ask for, whose result names the clone; with ' +
          '`dryRun` 200 with the plan. Asked for again, it finds the clone that is there.',
        params: tenantParams,
        body,
        response: { 200: plan, 202: z.object({ operation: operationSchema }) },
      },
    },
    async (request, reply) => {
      const operation = request.operation();
      const { id: tenant } = request.params;
      const { from, dryRun, admin, ...asked } = request.body;
      if (dryRun) {
        const found = from === 'live' ? await planLive(operation, tenant, asked) : await planBackup(operation, { from, tenant, archive: configured() }, asked);
        const { source, tables, notes, triggers } = found;
        const filled = tables.map((table) => ({ ...table, filled: [...table.filled] }));
        return reply.code(200).send({ dryRun: true, source, from: found.from, tables: filled, notes: [...notes], triggers: [...triggers] });
      }
      // Named now, so that a run after a crash takes the same one.
      const backup =
        from === 'live'
          ? undefined
          : await withOpened(configured().open, async (opened) => (await findBackup(opened, from, holdsTenant(opened, tenant))).manifest.id);
      const { id } = await beginClone(operation, durable, {
        ...asked,
        tenant,
        backup,
        ...(admin && { admin: { adminName: admin.name, adminEmail: admin.email }, passwordHash: await hashPassword(admin.password) }),
      });
      return reply.code(202).send({ operation: operationAnswer(await awaitOperation(operation, id, { timeoutMs: 0 })) });
    },
  );
}

interface Asked {
  readonly name: string;
  readonly plan?: string | undefined;
  readonly contactEmail?: string | undefined;
}

async function planLive(operation: Operation, tenant: string, { name, plan: wanted, contactEmail }: Asked): Promise<CloneReport> {
  const source = await liveSource(operation, tenant);
  return cloneTenant(operation, source, { name, plan: wanted, contactEmail, dryRun: true }).finally(() => source.close());
}

function planBackup(
  operation: Operation,
  { from, tenant, archive }: { readonly from: string; readonly tenant: string; readonly archive: ArchiveOptions },
  { name, plan: wanted, contactEmail }: Asked,
): Promise<CloneReport> {
  return withOpened(archive.open, async (opened) => {
    const source = await backupSource(opened, await findBackup(opened, from, holdsTenant(opened, tenant)), tenant);
    return cloneTenant(operation, source, { name, plan: wanted, contactEmail, dryRun: true });
  });
}
