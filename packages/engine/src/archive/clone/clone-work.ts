import { sqlState } from '../../db/connect.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { beginOperation, finishOperation, keepDetails, type LongOperation, readDetails, reportProgress } from '../../durable/operations.ts';
import type { Durable, Work } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { directoryEntry } from '../../tenants/transfer/session.ts';
import { copyFiles } from '../files/copy-files.ts';
import { restoreFiles } from '../files/restore-files.ts';
import { liveSource } from '../live-source.ts';
import type { OpenArchive } from '../open-archive.ts';
import { backupSource } from '../read/backup-source.ts';
import { openBackup } from '../read/open-backup.ts';
import { type CloneInput, cloneTenant } from './clone-tenant.ts';

/** Kind of the operation that clones a tenant. Its result names the clone: `{ tenant, created }`. */
export const cloneKind = 'tenant.clone';

/** A clone that goes on in the background, and after a crash. */
export interface CloneRequest extends Pick<CloneInput, 'name' | 'plan' | 'contactEmail'> {
  readonly tenant: string;
  /** Id of a backup; undefined: as the tenant is now. */
  readonly backup?: string | undefined;
  readonly admin?: { readonly adminName: string; readonly adminEmail: string } | undefined;
  readonly reason?: string | undefined;
}

/**
 * Begins to clone a tenant; the operation that is returned tells how far it is. Asking for the same again while it runs goes on with that
 * one, and asking after it has ended finds the clone by its name.
 *
 * @param passwordHash of the first admin, where there is one. It is kept with the operation until that has ended, and not a moment longer
 * @throws PartywallError tenant_unknown (where no backup is named), restore_refused (another clone of the tenant is under way)
 */
export async function beginClone(
  operation: Operation,
  durable: Durable,
  { tenant, reason, passwordHash, ...request }: CloneRequest & { readonly passwordHash?: string | undefined },
): Promise<LongOperation> {
  const { pool } = operation.database;
  if (request.backup === undefined) await directoryEntry(pool, tenant);
  const begun = await transaction(pool, async (client) => {
    const long = await beginOperation(client, operation, { kind: cloneKind, tenant, reason, request });
    if (passwordHash !== undefined) await keepDetails(client, long.id, { passwordHash });
    return long;
  }).catch((error: unknown) => {
    if (sqlState(error) !== '23505') throw error;
    throw new PartywallError('restore_refused', `cloning tenant ${tenant}: another clone of it is under way`, { cause: error });
  });
  await durable.start(begun);
  return begun;
}

/**
 * Clones in one step: what a crash cuts off has written nothing, or is found by its name.
 *
 * @param open opens the archive for one clone; undefined where there is none
 */
export function cloneWork(open?: () => Promise<OpenArchive>): Work {
  return async ({ operation, id, tenant, step }) => {
    const { pool } = operation.database;
    const ended = { request: undefined, passwordHash: undefined };
    try {
      await step('clone', async () => {
        const details = await readDetails(pool, id);
        if (details['result'] === undefined) {
          const { backup, admin, ...input } = requestOf(tenant, details);
          const hash = details['passwordHash'];
          await reportProgress(pool, id, { step: backup === undefined ? 'cloning' : `cloning from backup ${backup}` });
          const first = admin && { ...admin, hashPassword: async () => (typeof hash === 'string' ? hash : refuseLost(tenant)) };
          const result = await fromSource({ operation, tenant, backup, open }, { ...input, admin: first });
          // Operations outlive tenants: no name or address stays with them.
          await keepDetails(pool, id, { ...ended, result });
        }
        await finishOperation(pool, id);
      });
    } catch (error) {
      await keepDetails(pool, id, ended);
      throw error;
    }
  };
}

interface From {
  readonly operation: Operation;
  readonly tenant: string;
  readonly backup: string | undefined;
  readonly open: (() => Promise<OpenArchive>) | undefined;
}

interface Cloned {
  readonly tenant: string | null;
  readonly created: boolean;
}

/** Rows, and then files where the model says that tenants have some: what is cut off between the two finds the clone, and goes on. */
async function fromSource({ operation, tenant, backup, open }: From, input: CloneInput): Promise<Cloned> {
  const hasFiles = operation.database.model.archive.files.size > 0;
  if (backup === undefined) {
    const source = await liveSource(operation, tenant);
    const { tenant: into, created } = await cloneTenant(operation, source, input).finally(() => source.close());
    if (into !== null && hasFiles) await copyFiles(operation, { from: tenant, into });
    return { tenant: into, created };
  }
  if (!open)
    throw new PartywallError('restore_refused', `cloning tenant ${tenant} from backup ${backup}: no archive is given`, { hint: 'set PARTYWALL_ARCHIVE' });
  const archive = await open();
  try {
    const opened = await openBackup(archive, backup);
    const { tenant: into, created } = await cloneTenant(operation, await backupSource(archive, opened, tenant), input);
    if (into !== null && hasFiles && opened.manifest.classes.includes('files'))
      await restoreFiles(operation, archive, { tenant, backup, into: { tenant: into } });
    return { tenant: into, created };
  } finally {
    await archive.close();
  }
}

function refuseLost(tenant: string): never {
  throw new PartywallError('restore_refused', `cloning tenant ${tenant}: the password of its first admin is not kept any more; ask again with one`);
}

function requestOf(tenant: string, { request }: Readonly<Record<string, unknown>>): CloneRequest {
  if (typeof request !== 'object' || request === null || !('name' in request) || typeof request.name !== 'string')
    throw new PartywallError('restore_refused', `cloning tenant ${tenant}: the operation does not say into what`);
  // Written by `beginClone` alone.
  return { ...(request as Omit<CloneRequest, 'tenant'>), tenant };
}
