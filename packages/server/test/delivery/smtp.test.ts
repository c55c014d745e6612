import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { evaluateAlerts, listDeliveries, setAlertChannel } from '@partywall/engine';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { deliverDue } from '../../src/delivery/deliver.ts';
import { parseSmtpUrl, smtpMailer } from '../../src/delivery/smtp.ts';

interface Mail {
  readonly from: string;
  readonly to: readonly string[];
  readonly user: string | undefined;
  readonly text: string;
}

/** A real SMTP server on this machine; what it took is in `mails`. */
async function smtpServer(options: SMTPServerOptions = {}): Promise<{ port: number; mails: Mail[] }> {
  const mails: Mail[] = [];
  const server = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    allowInsecureAuth: true,
    authOptional: true,
    onAuth: ({ username, password }, _session, done) => {
      if (username === 'alerts' && password === 'pass word/1') done(null, { user: username });
      else done(new Error('wrong user or password'));
    },
    onData: async (stream, { envelope, user }, done) => {
      let text = '';
      for await (const chunk of stream.setEncoding('utf8')) text += String(chunk);
      mails.push({ from: envelope.mailFrom ? envelope.mailFrom.address : '', to: envelope.rcptTo.map(({ address }) => address), user, text });
      done();
    },
    ...options,
  });
  server.on('error', () => undefined); // a client that hangs up
  const listening = server.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  afterAll(() => new Promise<void>((resolve) => server.close(() => resolve())));
  // A server that listens on TCP has an address with a port.
  return { port: (listening.address() as AddressInfo).port, mails };
}

const from = 'alerts@partywall.example';
const message = { to: 'ops@partywall.example', subject: 'Hello', text: 'A text with ö' };

describe('a mailer', () => {
  test('hands a message to the server, signed in', async () => {
    const { port, mails } = await smtpServer();
    await smtpMailer({ host: '127.0.0.1', port, tls: 'none', user: 'alerts', password: 'pass word/1', from })(message);
    expect(mails).toMatchObject([{ from, to: ['ops@partywall.example'], user: 'alerts' }]);
    expect(mails[0]?.text).toContain('Subject: Hello');
  });

  test('sends nothing where the server offers no TLS and it was not switched off, above all no password', async () => {
    const { port, mails } = await smtpServer({ onAuth: () => expect.unreachable('the password was sent in clear') });
    const mail = smtpMailer({ host: '127.0.0.1', port, user: 'alerts', password: 'pass word/1', from });
    await expect(mail(message)).rejects.toMatchObject({ code: 'ETLS' });
    expect(mails).toEqual([]);
  });

  test('rejects where the server does not let it in', async () => {
    const { port } = await smtpServer();
    await expect(smtpMailer({ host: '127.0.0.1', port, tls: 'none', user: 'alerts', password: 'wrong', from })(message)).rejects.toMatchObject({
      code: 'EAUTH',
    });
  });

  test.each([
    [
      'smtp://alerts:pass%20word%2F1@mail.example:2525?from=a@b.example',
      { host: 'mail.example', port: 2525, tls: 'starttls', user: 'alerts', password: 'pass word/1', from: 'a@b.example' },
    ],
    ['smtps://mail.example?from=a@b.example', { host: 'mail.example', tls: 'implicit', from: 'a@b.example' }],
    ['smtp://localhost?from=a@b.example&tls=none', { host: 'localhost', tls: 'none', from: 'a@b.example' }],
    ['smtp://[::1]:25?from=a@b.example', { host: '::1', port: 25, tls: 'starttls', from: 'a@b.example' }],
  ])('is described by %s', (url, config) => {
    expect(parseSmtpUrl(url)).toEqual(config);
  });

  test.each(['', 'mail.example', 'http://user:hunter2@mail.example?from=a@b', 'smtp://user:hunter2@mail.example'])(
    '%j describes none, and is not repeated',
    (url) => {
      expect(() => parseSmtpUrl(url)).toThrow(/^not of the form smtp:/);
      expect(() => parseSmtpUrl(url)).not.toThrow(/hunter2/);
    },
  );
});

describe('an e-mail channel', async () => {
  const fixture = await controlDatabase();
  const { query } = fixture.database;
  const options = { to: ['ops@partywall.example', 'duty@partywall.example'] };

  beforeEach(async () => {
    await query('truncate partywall_control.alerts, partywall_control.alert_channels, partywall_control.deliveries');
    await query('delete from tenants');
    const target = { kind: 'email', ...options } as const;
    await setAlertChannel(fixture.operation(), {
      name: 'mail',
      kind: 'email',
      target,
      severities: ['warning', 'critical'],
      rules: ['quotas'],
      tenants: null,
      enabled: true,
    });
  });

  async function alarm(name: string): Promise<void> {
    const tenant = await fixture.tenant('mailed', 'free');
    await query('update partywall_control.directory set name = $2 where tenant_id = $1', [tenant, name]);
    await query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 90) n', [tenant]);
    await evaluateAlerts(fixture.operation());
  }

  test('tells its recipients, and a tenant cannot add a header or a recipient by its name', async () => {
    const { port, mails } = await smtpServer();
    await alarm('Evil\r\nBcc: thief@elsewhere.example\r\n\r\nbody');
    expect(await deliverDue(fixture.control, { mail: smtpMailer({ host: '127.0.0.1', port, tls: 'none', from }) })).toEqual({ delivered: 1, failed: 0 });
    const [mail] = mails;
    expect(mail?.to).toEqual(['ops@partywall.example', 'duty@partywall.example']);
    const [head = ''] = mail?.text.split('\r\n\r\n', 1) ?? [];
    expect(head.split('\r\n').filter((line) => /^bcc/i.test(line))).toEqual([]);
    expect(head.replaceAll(/\r\n\s/g, ' ')).toContain('Subject: [warning] Evil Bcc: thief@elsewhere.example body: Quota customers at 90 %');
  });

  test('that does not get in is tried again, and the reason names no address and no password', async () => {
    const { port } = await smtpServer();
    await alarm('waiting');
    await deliverDue(fixture.control, { mail: smtpMailer({ host: '127.0.0.1', port, tls: 'none', user: 'alerts', password: 'hunter2', from }) });
    expect(await listDeliveries(fixture.operation(), { limit: 10 })).toMatchObject([{ status: 'waiting', attempts: 1, failure: 'EAUTH 535' }]);
  });

  test('fails for good where no SMTP server is configured', async () => {
    await alarm('silent');
    await deliverDue(fixture.control, {});
    expect(await listDeliveries(fixture.operation(), { limit: 10 })).toMatchObject([{ status: 'failed', failure: 'no SMTP server is configured' }]);
  });
});
