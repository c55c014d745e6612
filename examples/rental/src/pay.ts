import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { signWebhook } from '@partywall/wall/webhooks';

/**
 * What the payment provider does: `npm run pay -- --invoice I-1 --tenant <id> [--id <message id>] [--secret <other>] [--url <base>]`. Prints status and answer.
 * Without `--tenant` it forgets the header.
 */
const { values } = parseArgs({
  options: {
    invoice: { type: 'string', default: '' },
    tenant: { type: 'string' },
    id: { type: 'string', default: randomUUID() },
    secret: { type: 'string', default: process.env['PAYMENTS_SECRET'] ?? '' },
    url: { type: 'string', default: process.env['RENTAL_URL'] ?? 'http://localhost:3000' },
  },
});
const { invoice, tenant, id, secret, url } = values;
const body = JSON.stringify({ invoice });
const response = await fetch(`${url}/webhooks/payment`, {
  method: 'POST',
  headers: {
    'content-type': 'application/json',
    ...(tenant !== undefined && { 'x-tenant-id': tenant }),
    ...signWebhook({ secrets: [secret], id, timestamp: new Date(), body }),
  },
  body,
});
console.log(`${response.status} ${await response.text()}`.trim());
