import {
  awaitOperation,
  beginRestore,
  type Durable,
  findBackup,
  holdsTenant,
  PartywallError,
  planRestore,
  restoreFromArchive,
  undoReason,
  withOpened,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { reason, tenantParams, text, time } from '../schemas.ts';
import type { ArchiveOptions } from './backups.ts';
import { operationAnswer, operationSchema } from './tenants-schemas.ts';

const tags = ['backups'];
/** A plan reads the tenant's rows of the backup. */
const handlerTimeout = 3_600_000;
const listMax = 1_000;

const names = z.array(text(400).min(1)).min(1).max(listMax);
const body = z.strictObject({
  backup: text(100).min(1).describe('Its name, `latest`, or a time: the last one whose snapshot is not later'),
  dryRun: z.boolean().default(false).describe('Only say what would change'),
  prove: z.enum(['counters', 'hash']).optional().describe('hash: also compare what every other tenant has, before and after'),
  tables: names.optional().describe('Only these'),
  leave: names.optional().describe('Tables that stay as they are, and columns of the backup that nothing takes'),
  rename: z.record(z.string().max(400), text(63).min(1)).optional().describe('Columns that have another name since: `{ "public.t.old": "new" }`'),
  reason: reason.optional(),
});

const plan = z.object({
  dryRun: z.literal(true),
  tenant: z.string(),
  source: z.string(),
  at: time,
  tables: z.array(z.object({ table: z.string(), inserted: z.int(), updated: z.int(), deleted: z.int(), unchanged: z.int() })),
  notes: z.array(z.string()).describe('Where the schema has changed since'),
  triggers: z.array(z.string()),
  conflicts: z.array(z.string()).describe('What would stop it'),
});

/** Restores one tenant from a backup into the live database. */
export function registerRestores(
  instance: FastifyInstance,
  { durable, archive }: { readonly durable: Durable; readonly archive?: ArchiveOptions | undefined },
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.post(
    '/api/admin/tenants/:id/restore-from-backup',
    {
      config: { access: 'super_admin' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'restoreTenantFromBackup',
        summary: 'Restore a tenant from a backup',
        description:
          'Backs up what is there, lets nobody in, applies the difference in one transaction and proves that no other tenant changed. 202 with the operation to ask ' +
          'for; with `dryRun` 200 with the plan.',
        params: tenantParams,
        body,
        response: { 200: plan, 202: z.object({ backup: z.string(), operation: operationSchema }) },
      },
    },
    async (request, reply) => {
      if (!archive) throw new PartywallError('backup_refused', 'opening the archive: this server has none', { hint: 'start it with PARTYWALL_ARCHIVE' });
      const operation = request.operation();
      const { id: tenant } = request.params;
      const { backup: named, dryRun, ...choices } = request.body;
      return withOpened(archive.open, async (opened) => {
        const holds = holdsTenant(opened, tenant);
        const { manifest } = await findBackup(opened, named, (found) => holds(found) && found.manifest.reason !== undoReason);
        const asked = { ...choices, tenant, backup: manifest.id };
        if (!dryRun) {
          const begun = await beginRestore(operation, durable, asked);
          return reply.code(202).send({ backup: manifest.id, operation: operationAnswer(await awaitOperation(operation, begun.id, { timeoutMs: 0 })) });
        }
        const found = await planRestore(operation, await restoreFromArchive(opened).source(operation, asked), asked);
        return reply.code(200).send({
          dryRun: true,
          ...found,
          tables: [...found.tables],
          notes: [...found.notes],
          triggers: [...found.triggers],
          conflicts: [...found.conflicts],
        });
      });
    },
  );
}
