import { createTransport } from 'nodemailer';
import type { SendMail } from '../people/people-options.ts';

/** A server that takes mail. */
export interface SmtpConfig {
  readonly host: string;
  /** Default: 465 for `implicit`, 25 for `none`, else 587. */
  readonly port?: number | undefined;
  /**
   * starttls: the connection is upgraded before anything else, or nothing is sent. implicit: TLS from the first byte. none: for a relay on the
   * same machine. Default: starttls.
   */
  readonly tls?: 'starttls' | 'implicit' | 'none' | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** `Partywall <alerts@example.com>` */
  readonly from: string;
  readonly timeoutMs?: number | undefined;
}

const smtpTimeoutMs = 10_000;
const defaultPorts = { starttls: 587, implicit: 465, none: 25 } as const;

/**
 * Sends mail through an SMTP server, one connection for each message. Rejects where the server did not take it, with the error of nodemailer.
 *
 * @example const mail = smtpMailer({ host: 'smtp.example.com', user: 'alerts', password, from: 'alerts@example.com' });
 */
export function smtpMailer({ host, tls = 'starttls', port = defaultPorts[tls], user, password, from, timeoutMs = smtpTimeoutMs }: SmtpConfig): SendMail {
  const transport = createTransport({
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(user !== undefined && { auth: { user, pass: password ?? '' } }),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    dnsTimeout: timeoutMs,
    // A text names neither files nor addresses to be fetched.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return async ({ to, subject, text }) => {
    await transport.sendMail({ from, to, subject, text });
  };
}

/**
 * Reads `smtp://user:password@host:port?from=alerts@example.com` (STARTTLS), `smtps://...` (TLS from the first byte); `&tls=none` for a relay on
 * the same machine.
 *
 * @throws TypeError that does not repeat the text, which may hold a password
 */
export function parseSmtpUrl(text: string): SmtpConfig {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const from = url?.searchParams.get('from');
  if (!url || (url.protocol !== 'smtp:' && url.protocol !== 'smtps:') || url.hostname === '' || !from) {
    throw new TypeError('not of the form smtp://user:password@host:587?from=alerts@example.com');
  }
  const plain = url.searchParams.get('tls') === 'none';
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    from,
    tls: url.protocol === 'smtps:' ? 'implicit' : plain ? 'none' : 'starttls',
    ...(url.port !== '' && { port: Number(url.port) }),
    ...(url.username !== '' && { user: decodeURIComponent(url.username), password: decodeURIComponent(url.password) }),
  };
}
