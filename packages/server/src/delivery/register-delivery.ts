import type { ControlDatabase } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import { type Deliverer, type DeliveryOptions, startDelivering } from './deliver.ts';

/** Delivers alerts while the server runs. */
export function registerDelivery(app: FastifyInstance, database: ControlDatabase, options: DeliveryOptions): void {
  let deliverer: Deliverer | undefined;
  app.addHook('onReady', async () => {
    // By name and message alone: an error of the database carries rows.
    const onError = (error: unknown): void =>
      app.log.error({ failure: error instanceof Error ? error.message : String(error) }, 'the outbox could not be read');
    deliverer = startDelivering(database, options, onError);
  });
  app.addHook('onClose', async () => {
    await deliverer?.stop();
  });
}
