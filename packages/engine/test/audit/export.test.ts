import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type AuditExportOptions, appendAudit, exportAudit, publicKeys, readVerifier, searchAudit, verifierOfKeys, verifyAuditExport } from '@partywall/engine';
import { expect, onTestFinished, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { control } = fixture;
const operation = fixture.operation();
for (const tenant of ['alder', 'birch']) {
  for (let n = 1; n <= 5; n += 1) {
    await appendAudit(control.pool, operation, { tenant, action: 'test.step', details: { n, price: 0.1 + 0.2, text: '𝔘\u2028"\\', big: 1e300 } });
  }
}

async function exported(options: AuditExportOptions): Promise<string[]> {
  let text = '';
  for await (const lines of exportAudit(operation, options)) text += lines;
  expect(text.endsWith('\n')).toBe(true);
  return text.slice(0, -1).split('\n');
}

async function* each(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
const check = async (lines: readonly string[]) => verifyAuditExport(each(lines), { verify: await readVerifier(control.keyring) });

test('an export of one chain holds its records from first to last, and verifies without the database', async () => {
  const lines = await exported({ tenant: 'alder' });
  const values = lines.map((line): { kind: string; action?: string } => JSON.parse(line));
  expect(values.map(({ kind, action }) => action ?? kind)).toEqual([...Array(5).fill('test.step'), 'audit.export', 'end']);
  expect(await check(lines)).toEqual({ sound: true, chains: { visited: 1, of: 1 }, records: 6, anchors: 0, faults: [], more: 0, file: [] });
});

test('an export of all chains has each in one piece, and is a record of the platform’s chain', async () => {
  const report = await check(await exported({}));
  expect(report).toMatchObject({ sound: true, chains: { visited: 3 } });
  const [newest] = await searchAudit(operation, { tenant: null }, { limit: 1 });
  expect(newest).toMatchObject({ action: 'audit.export', details: { chains: 'all' } });
});

test('a range of time verifies although it does not begin with the first record', async () => {
  const [, , third] = (await searchAudit(operation, { tenant: 'birch' }, { limit: 10 })).toReversed();
  const lines = await exported({ tenant: 'birch', from: third?.at, to: new Date(Date.now() + 60_000).toISOString() });
  expect(await check(lines)).toMatchObject({ sound: true, records: 4 });
});

test.each([
  [
    'a changed word',
    (lines: string[]) => lines.with(1, (lines[1] ?? '').replace('"action":"test.step"', '"action":"test.other"')),
    /^line 2 is no line of an export, or does not say what its text says$/,
  ],
  [
    'a number changed beyond what a program would see',
    (lines: string[]) => lines.with(1, (lines[1] ?? '').replace('0.30000000000000004', '0.300000000000000041')),
    /^line 2 is no line/,
  ],
  ['a removed line', (lines: string[]) => lines.toSpliced(2, 1), /^the end tells of \d+ records/],
  ['the last records removed', (lines: string[]) => lines.toSpliced(-3, 2), /^the end tells of \d+ records/],
  ['no end', (lines: string[]) => lines.slice(0, -1), /^the file has no end/],
  [
    'two lines that changed places',
    (lines: string[]) => lines.with(1, lines[2] ?? '').with(2, lines[1] ?? ''),
    /^the lines are not the ones that the end was signed over$/,
  ],
  ['something behind the end', (lines: string[]) => [...lines, lines[0] ?? ''], /stands behind the end$/],
  [
    'a forged end',
    (lines: string[]) => lines.with(-1, (lines.at(-1) ?? '').replace('"chains":1', '"chains":2')),
    /^the signature of the end is not of what it says$/,
  ],
  ['a line that is none', (lines: string[]) => lines.with(0, '{"kind":"note"}'), /^line 1 is no line of an export/],
])('%s in the file is found', async (_name, change, message) => {
  const report = await check(change(await exported({ tenant: 'alder' })));
  expect(report.sound).toBe(false);
  expect(report.file[0]).toMatch(message);
});

test('the first record that is wrong is named, chain and number', async () => {
  const lines = await exported({ tenant: 'alder' });
  expect((await check(lines.toSpliced(2, 1))).faults).toEqual([{ tenantId: 'alder', seq: 3, kind: 'missing', message: 'record 3 is missing' }]);
});

test('public keys alone verify an export, and those of somebody else do not', async () => {
  const lines = await exported({ tenant: 'alder' });
  const ours = [...(await publicKeys(control.keyring)).values()].join('\n');
  expect(await verifyAuditExport(each(lines), { verify: verifierOfKeys(ours) })).toMatchObject({ sound: true });
  const theirs = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
  expect(await verifyAuditExport(each(lines), { verify: verifierOfKeys(theirs) })).toMatchObject({ sound: false });
  expect(await verifyAuditExport(each(lines), { verify: verifierOfKeys(theirs + ours) })).toMatchObject({ sound: true });
  expect(() => verifierOfKeys('no key')).toThrow('the text holds none');
});

test('a keyring without the key does not call an export sound', async () => {
  const elsewhere = await mkdtemp(path.join(os.tmpdir(), 'partywall-elsewhere-'));
  onTestFinished(() => rm(elsewhere, { recursive: true }));
  const report = await verifyAuditExport(each(await exported({ tenant: 'alder' })), { verify: await readVerifier(elsewhere) });
  expect(report).toMatchObject({
    sound: false,
    file: [expect.stringMatching(/^the end is signed by key signing-1:[0-9a-f]{16}, which the keyring does not hold$/)],
  });
});
