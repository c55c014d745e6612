import { isUtf8 } from 'node:buffer';
import { Webhook } from 'standardwebhooks';
import { holdsOne, type SignatureScheme, signaturesMax, signedHead } from './signature.ts';

/**
 * Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature: v1,...`), signed by its own library: secrets are `whsec_` and base64. Its `verify` is not
 * used: its tolerance is fixed, and it takes a timestamp that ends in something else.
 */
export const standardSignature: SignatureScheme = {
  prove: ({ header, body }, secrets) => {
    const timestamp = header('webhook-timestamp');
    const signed = signedHead(header('webhook-id'), timestamp);
    // The library signs text: bytes that are none would be signed as others.
    if (!signed || timestamp !== String(signed.timestamp) || !isUtf8(body)) return null;
    const given = (header('webhook-signature') ?? '').split(' ').slice(0, signaturesMax);
    const wanted = secrets.map((secret) => new Webhook(secret).sign(signed.id, new Date(signed.timestamp * 1_000), body));
    return holdsOne(given, wanted) ? signed : null;
  },
};
