import { createWebhooks, expressWebhook } from '@partywall/wall/webhooks';
import type { RequestHandler } from 'express';
import { z } from 'zod';
import { found } from './answers.ts';
import type { Database } from './database.ts';

const payment = z.object({ invoice: z.string().min(1).max(40) });

/**
 * What the payment provider sends: signature, then `X-Tenant-ID`, then the tenant's context; each message once. The provider collects for every tenant of
 * the platform, so it may name any; one who acts for a few would have `mayAct` say which.
 */
export function paymentWebhook({ pool, prisma }: Pick<Database, 'pool' | 'prisma'>, secret: string): RequestHandler {
  const payments = createWebhooks({ pool, sender: 'payments', secrets: [secret], mayAct: () => true });
  return expressWebhook(payments, async (message) => {
    const { invoice: number } = payment.parse(message.json());
    const [paid] = await prisma.invoice.updateManyAndReturn({ where: { number }, data: { paidAt: message.sentAt } });
    found(paid, `invoice ${number}`);
  });
}
