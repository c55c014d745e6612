import { PartywallError } from '@partywall/engine';
import type { DeliveryOptions, SendMail } from '@partywall/server';
import type { CommandContext } from './context.ts';

/**
 * How alerts, and mail of the control plane, leave: PARTYWALL_SMTP_URL is the mail server, and PARTYWALL_PRIVATE_TARGETS=allow lets webhooks go to
 * this machine and its private networks.
 *
 * @throws PartywallError usage, which does not repeat what may hold a password
 */
export async function deliveryOptions({ env }: CommandContext): Promise<DeliveryOptions> {
  const targets = env['PARTYWALL_PRIVATE_TARGETS'] ?? '';
  if (targets !== '' && targets !== 'allow') {
    throw new PartywallError('usage', `reading PARTYWALL_PRIVATE_TARGETS: ${JSON.stringify(targets)}`, { hint: 'set it to allow, or unset it' });
  }
  const mail = await mailer(env['PARTYWALL_SMTP_URL']);
  return { allowPrivateTargets: targets === 'allow', ...(mail && { mail }) };
}

async function mailer(url: string | undefined): Promise<SendMail | undefined> {
  if (!url) return undefined;
  // Loaded here, so that the other verbs start without a web server.
  const { parseSmtpUrl, smtpMailer } = await import('@partywall/server');
  try {
    return smtpMailer(parseSmtpUrl(url));
  } catch (cause) {
    throw new PartywallError('usage', `reading PARTYWALL_SMTP_URL: ${cause instanceof Error ? cause.message : String(cause)}`, {
      hint: 'percent-encode what the user or password holds beside letters and digits',
    });
  }
}
