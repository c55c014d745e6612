import { crossTenantAttempts, system, unitIn } from '@partywall/wall';
import { expressTenants } from '@partywall/wall/express';
import express, { type Express } from 'express';
import { answerErrors, answerNoRoute } from './answers.ts';
import { assetRoutes } from './assets.ts';
import type { Database } from './database.ts';
import { paymentWebhook } from './payments.ts';
import { rentalRoutes } from './rentals.ts';
import { reportRoutes } from './reports.ts';
import { supplyRoutes } from './supplies.ts';
import { tokenVerifier } from './tokens.ts';

export interface AppOptions {
  readonly database: Pick<Database, 'pool' | 'prisma'>;
  /** Signs the bearer tokens. */
  readonly tokenSecret: string;
  /** The payment provider signs its messages with it. */
  readonly paymentsSecret: string;
  /** Hears what could not be done beside an answer. */
  readonly onTrouble: (error: unknown) => void;
}

/** The ERP's HTTP interface. The caller listens, and ends the pools. */
export function createApp({ database: { pool, prisma }, tokenSecret, paymentsSecret, onTrouble }: AppOptions): Express {
  const { enter, problems } = expressTenants({
    verify: tokenVerifier(tokenSecret),
    public: ['/health', '/webhooks/payment'],
    unit: { belongs: unitIn(pool, { table: 'business_units' }) },
    // Clients connect directly here; behind a proxy, its networks.
    attempts: crossTenantAttempts({ pool, trustedProxies: [], onTrouble }),
  });
  const app = express();
  app.disable('x-powered-by');
  app.use(enter);
  // Its signature is of the exact bytes, so no parser comes before it.
  app.post('/webhooks/payment', paymentWebhook({ pool, prisma }, paymentsSecret));
  app.use(express.json({ limit: '100kb' }));
  app.get('/health', async (_request, response) => {
    await system('health', () => pool.query('select 1'));
    response.json({ status: 'ok', database: 'ok' });
  });
  app.use('/api/v1/assets', assetRoutes(prisma));
  app.use('/api/v1/supplies', supplyRoutes(prisma));
  app.use('/api/v1/reports', reportRoutes(prisma));
  app.use('/api/v1', rentalRoutes(prisma));
  app.use(answerNoRoute);
  app.use(problems);
  app.use(answerErrors(onTrouble));
  return app;
}
