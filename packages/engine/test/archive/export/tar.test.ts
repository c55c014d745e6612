import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { safeName, tenantFileName } from '../../../src/archive/export/file-name.ts';
import { readTar, tarEnd, tarHeader, tarPadding } from '../../../src/archive/export/tar.ts';

const modifiedAt = new Date('2026-11-21T02:00:00Z');
const run = promisify(execFile);

function packed(entries: readonly { readonly name: string; readonly content: Buffer }[]): Buffer {
  return Buffer.concat([
    ...entries.flatMap(({ name, content }) => [tarHeader({ name, bytes: content.length, modifiedAt }), content, tarPadding(content.length)]),
    tarEnd,
  ]);
}

async function* cut(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function unpacked(bytes: Buffer, sizes: readonly number[] = [65_536]): Promise<{ name: string; content: Buffer }[]> {
  const found: { name: string; content: Buffer }[] = [];
  for await (const { name, body } of readTar(cut(bytes, sizes))) {
    const pieces: Buffer[] = [];
    for await (const piece of body) pieces.push(piece);
    found.push({ name, content: Buffer.concat(pieces) });
  }
  return found;
}

describe('a tar', () => {
  it('of any files reads back as it was written, however its bytes come', async () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 300 }).filter((text) => !text.includes('\0') && text.isWellFormed());
    const content = fc.uint8Array({ maxLength: 3_000 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name, content }), { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 2_000 }), { minLength: 1 }),
        async (entries, sizes) => {
          expect(await unpacked(packed(entries), sizes)).toEqual(entries);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is read by the system’s tar, with long and foreign names', async () => {
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-tar-'));
    try {
      const names = ['a.txt', `${'long/'.repeat(40)}name.txt`, 'größe 🙂.txt', '-starts-with-a-dash'];
      await fs.writeFile(path.join(folder, 'x.tar'), packed(names.map((name) => ({ name, content: Buffer.from(name) }))));
      await run('tar', ['-xf', 'x.tar'], { cwd: folder });
      for (const name of names) {
        expect(await fs.readFile(path.join(folder, name), 'utf8')).toBe(name);
        expect((await fs.stat(path.join(folder, name))).mode & 0o777).toBe(0o600);
      }
    } finally {
      await fs.rm(folder, { recursive: true, force: true });
    }
  });

  it('that was cut short or changed in a header is refused', async () => {
    const whole = packed([{ name: 'a', content: Buffer.alloc(700, 'x') }]);
    for (const length of [100, 512, 900, 512 + 700, 512 + 1_024, 512 + 1_024 + 100]) {
      await expect(unpacked(whole.subarray(0, length))).rejects.toMatchObject({ code: 'export_invalid' });
    }
    for (const at of [0, 124, 150, 156, 300]) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(unpacked(changed)).rejects.toMatchObject({ code: 'export_invalid' });
    }
    await expect(unpacked(Buffer.concat([whole, Buffer.from('more')]))).rejects.toMatchObject({ code: 'export_invalid' });
  });
});

describe('the name of a tenant’s file', () => {
  it.each([
    ['acme', 'tenant_acme_20261121_020000.tar.gz'],
    ['0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01', 'tenant_0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01_20261121_020000.tar.gz'],
  ])('of %s is %s', (tenant, name) => {
    expect(tenantFileName(tenant, modifiedAt)).toBe(name);
  });

  it('is one part of a path and not too long, whatever the tenant is called, and differs for different tenants', () => {
    const hostile = [
      '../../x',
      '/etc/passwd',
      '..',
      '.',
      '',
      '-rf',
      "a'b",
      'a"b',
      'a\nb',
      'a b',
      '$(id)',
      '🙂',
      'é',
      'e\u0301',
      'x'.repeat(300),
      `${'x'.repeat(299)}y`,
      'CON',
      'a\\b',
    ];
    const names = hostile.map((tenant) => tenantFileName(tenant, modifiedAt));
    for (const name of names) expect(name).toMatch(/^tenant_[A-Za-z0-9][A-Za-z0-9._-]{0,79}_20261121_020000\.tar\.gz$/);
    expect(new Set(names).size).toBe(hostile.length);
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => /^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$/.test(safeName(text))));
  });
});
