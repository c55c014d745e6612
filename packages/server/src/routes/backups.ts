import {
  type ArchiveOpener,
  applyRetention,
  type BackupRunEntry,
  type BackupSettings,
  type Durable,
  isLate,
  keepClasses,
  listBackupRuns,
  PartywallError,
  planTiers,
  readBackupRun,
  recoveryClasses,
  recoveryStates,
  recoveryStatus,
  startBackup,
  tenantRecoveryStatus,
  withOpened,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { decodeCursor, encodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { optionalBody, reason, tenantId, text, time } from '../schemas.ts';
import { tenantOf } from '../tenant-of.ts';
import { operationAnswer, operationSchema } from './tenants-schemas.ts';

/** Where the backups are, and how they are kept. */
export interface ArchiveOptions {
  /** Opens the archive for one piece of work, which closes it. */
  readonly open: ArchiveOpener;
  readonly settings?: BackupSettings;
  /** A server that drills restore into, as a superuser, and the application's connection string on it. Default: one of their own. */
  readonly staging?: { readonly url: string; readonly appUrl?: string | undefined };
}

const tags = ['backups'];
/** Retention reads the manifest of every backup. */
const retentionTimeout = 3_600_000;
const tenantsMax = 1_000;
const states = ['running', 'stored', 'verified', 'failed'] as const;

const runSchema = z.object({
  backup: z.string().nullable().describe('Its name in the archive; null where it did not get so far'),
  reason: z.string(),
  scope: z.enum(['all', 'tenants']),
  classes: z.array(z.enum(recoveryClasses)),
  state: z.enum(states).describe('stored: not verified yet, so it does not count'),
  startedAt: time,
  finishedAt: time.nullable(),
  verifiedAt: time.nullable(),
  error: z.string().nullable(),
  counts: z.record(z.string(), z.unknown()).describe('Tenants, rows, what was stored'),
});

const subjectFields = {
  tier: z.enum(planTiers),
  state: z.enum(recoveryStates).describe('Of its worst data class'),
  classes: z.array(
    z.object({
      class: z.enum(recoveryClasses),
      state: z.enum(recoveryStates),
      rpoSeconds: z.int().describe('How old the recovery point may be'),
      backup: z.string().nullable(),
      at: time.nullable().describe('When the rows of the last verified backup were so'),
      nextDue: time.nullable().describe('Null: nobody writes there, and what is there is backed up'),
    }),
  ),
};
const tenantFields = {
  tenant: z.string(),
  name: z.string(),
  status: z.string(),
  proved: z
    .object({ backup: z.string(), at: time, provedAt: time })
    .nullable()
    .describe('The recovery point that a drill restored last, and found whole; null: none was drilled'),
  ...subjectFields,
};

const statusSchema = pageSchema(z.object(tenantFields)).extend({
  late: z.boolean().describe('Whether anything is not as promised'),
  at: time,
  scheduleRanAt: time.nullable(),
  scheduleStopped: z.boolean(),
  platform: z.object(subjectFields).describe('What belongs to no tenant'),
  visited: z.int(),
  tenants: z.int(),
  counts: z.object({ ok: z.int(), due: z.int(), late: z.int(), never: z.int() }),
});

const retentionSchema = z.object({
  dryRun: z.boolean(),
  countedFrom: time.nullable().describe('The newest verified backup: from there the periods are counted'),
  removed: z.int(),
  retired: z.int().describe('Tenants that went out of backups that stay'),
  problems: z.array(z.string()),
  swept: z.object({ marked: z.int(), deleted: z.int(), bytes: z.int(), locked: z.int(), waiting: z.int() }).nullable(),
  backups: z.array(
    z.object({
      id: z.string(),
      at: time,
      verified: z.boolean(),
      standsFor: z.array(z.enum(keepClasses)),
      keep: z.boolean(),
      until: time,
      kept: z.int(),
      retired: z.int(),
      reasons: z.array(z.string()),
    }),
  ),
});

/** Backups that were made, how tenants stand against their recovery point objectives, and retention. */
export function registerBackups(
  instance: FastifyInstance,
  { durable, archive }: { readonly durable: Durable; readonly archive?: ArchiveOptions | undefined },
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const configured = (): ArchiveOptions => {
    if (archive) return archive;
    throw new PartywallError('backup_refused', 'opening the archive: this server has none', { hint: 'start it with PARTYWALL_ARCHIVE and PARTYWALL_ESCROW' });
  };

  app.get(
    '/api/admin/backups',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listBackups',
        summary: 'Backups that were begun, latest first',
        querystring: z.strictObject({ ...pageQuery.shape, state: z.enum(states).optional() }),
        response: { 200: pageSchema(runSchema) },
      },
    },
    async (request) => {
      const { limit, cursor, state } = request.query;
      const after = decodeCursor(z.object({ at: z.int(), id: z.uuid() }), cursor);
      const page = pageOf(await listBackupRuns(request.operation(), { state, limit, after }), limit, (last) => last.cursor);
      return { items: page.items.map(runAnswer), nextCursor: page.nextCursor };
    },
  );

  app.get(
    '/api/admin/backups/status',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'getBackupStatus',
        summary: 'Every tenant against its recovery point objective',
        querystring: z.strictObject({ ...pageQuery.shape, state: z.enum(recoveryStates).optional() }),
        response: { 200: statusSchema },
      },
    },
    async (request) => {
      const { limit, cursor, state } = request.query;
      const after = decodeCursor(text(200), cursor);
      const status = await recoveryStatus(request.operation(), { states: state && [state], limit, after, settings: archive?.settings });
      const nextCursor = status.more ? encodeCursor(status.items.at(-1)?.tenant) : null;
      return { ...status, items: status.items.map(mutable), platform: mutable(status.platform), late: isLate(status), nextCursor };
    },
  );

  app.get(
    '/api/admin/backups/:id',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'getBackup',
        summary: 'A backup, by its name in the archive',
        params: z.strictObject({ id: text(100).min(1) }),
        response: { 200: runSchema },
      },
    },
    async (request) => runAnswer(await readBackupRun(request.operation(), request.params.id)),
  );

  app.post(
    '/api/admin/backups',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'runBackup',
        summary: 'Make a backup, verify it and record it',
        description: '202 with the operation to ask for; where a backup runs already, with that one. 409 where the server has no archive.',
        body: optionalBody(
          z.strictObject({
            reason: reason.min(1).max(500).default('by hand'),
            tenants: z.array(tenantId).min(1).max(tenantsMax).optional().describe('Default: everybody, and what belongs to nobody'),
          }),
        ),
        response: { 202: z.object({ started: z.boolean().describe('False: another one runs'), operation: operationSchema }) },
      },
    },
    async (request, reply) => {
      configured();
      const { started, operation } = await startBackup(request.operation(), durable, request.body);
      return reply.code(202).send({ started, operation: operationAnswer(operation) });
    },
  );

  app.post(
    '/api/admin/backups/retention',
    {
      config: { access: 'super_admin' },
      handlerTimeout: retentionTimeout,
      schema: {
        tags,
        operationId: 'applyRetention',
        summary: 'Remove backups that no period asks for',
        body: optionalBody(z.strictObject({ dryRun: z.boolean().default(true).describe('Only say what would happen') })),
        response: { 200: retentionSchema },
      },
    },
    async (request) => {
      const { open, settings } = configured();
      const report = await withOpened(open, (opened) => applyRetention(request.operation(), opened, { dryRun: request.body.dryRun, settings }));
      const backups = report.backups.map((line) => ({
        ...line,
        standsFor: keepClasses.filter((name) => line.standsFor.includes(name)),
        reasons: [...line.reasons],
      }));
      return { ...report, backups, problems: [...report.problems] };
    },
  );

  app.get(
    '/api/tenants/backups',
    {
      config: { access: 'tenant_admin', tenant: 'query' },
      schema: {
        tags,
        operationId: 'getOwnBackups',
        summary: "The own tenant's recovery points",
        querystring: z.strictObject({ tenantId: tenantId.optional() }),
        response: { 200: z.object(tenantFields) },
      },
    },
    async (request) => mutable(await tenantRecoveryStatus(request.operation(), tenantOf(request))),
  );
}

function runAnswer({ startedAt, finishedAt, verifiedAt, classes, counts, ...run }: BackupRunEntry): z.output<typeof runSchema> {
  return {
    ...run,
    classes: [...classes],
    counts: { ...counts },
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt?.toISOString() ?? null,
    verifiedAt: verifiedAt?.toISOString() ?? null,
  };
}

/** What serializers want, whose arrays could be written to. */
function mutable<Status extends { readonly classes: readonly unknown[] }>(status: Status): Status & { classes: Status['classes'][number][] } {
  return { ...status, classes: [...status.classes] };
}
