import { awaitOperation, connect, type Durable, hasSystemDatabase, type LongOperation, type Operation, PartywallError } from '@partywall/engine';
import { withDurable } from './carry-out.ts';
import type { CommandContext } from './context.ts';
import { serviceUrl } from './control.ts';

const progressMs = 250;

/**
 * Runs `work` with what carries erasures out, in the archive too where the environment names one.
 *
 * @throws PartywallError control_missing, and what `work` throws
 */
export async function withEraser<Result>(ctx: CommandContext, operation: Operation, work: (durable: Durable) => Promise<Result>): Promise<Result> {
  await refuseWithoutSystem(serviceUrl(ctx));
  return withDurable(ctx, operation, work);
}

/** Waits for an erasure, and shows how far it is. @throws PartywallError erasure_refused: it stopped */
export async function awaitErasure(ctx: CommandContext, operation: Operation, { id, tenant }: LongOperation): Promise<void> {
  for (;;) {
    ctx.signal.throwIfAborted();
    const now = await awaitOperation(operation, id, { timeoutMs: progressMs });
    ctx.talk.progress({ label: now.step, done: Math.min(now.done, now.total), total: now.total, unit: 'rows' });
    if (now.state === 'failed') {
      throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: ${now.error}`, {
        hint: 'the tenant stays kept out; mend what the message names, then run the same again',
      });
    }
    if (now.state === 'done') return;
  }
}

async function refuseWithoutSystem(url: string): Promise<void> {
  const client = await connect(url, { purpose: 'command' });
  const there = await hasSystemDatabase(client).finally(() => client.end());
  if (!there) throw new PartywallError('control_missing', 'looking for the database that remembers the steps of long operations: it is not there');
}
