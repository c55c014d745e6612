import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { isSignedBy, publicKeys, signingKey } from '../../src/keyring/signing.ts';

async function folder(): Promise<string> {
  const at = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-signing-'));
  afterAll(() => fs.rm(at, { recursive: true, force: true }));
  return path.join(at, 'keyring');
}

describe('the signing key', () => {
  test('is made once, in a folder and a file that only their owner can use', async () => {
    const keyring = await folder();
    const first = await signingKey(keyring);
    expect((await signingKey(keyring)).id).toBe(first.id);
    expect((await fs.stat(keyring)).mode & 0o777).toBe(0o700);
    expect((await fs.stat(path.join(keyring, 'signing-1.pem'))).mode & 0o777).toBe(0o600);
    expect(await fs.readdir(keyring)).toEqual(['signing-1.pem']);
  });

  test('is the same for all who make it at once, in one process and in several', async () => {
    const keyring = await folder();
    const module = fileURLToPath(new URL('../../src/keyring/signing.ts', import.meta.url));
    const script = `const { signingKey } = await import(${JSON.stringify(module)}); console.log((await signingKey(${JSON.stringify(keyring)})).id);`;
    const child = async (): Promise<string> => {
      const process_ = spawn(process.execPath, ['--conditions=partywall-source', '--input-type=module', '-e', script]);
      let printed = '';
      process_.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
      await once(process_, 'close');
      return printed.trim();
    };
    const here = Promise.all(Array.from({ length: 20 }, async () => (await signingKey(keyring)).id));
    const ids = new Set([...(await Promise.all([child(), child(), child()])), ...(await here)]);
    expect(ids.size).toBe(1);
  });

  test('signs what its public half accepts, and nothing that differs by a character', async () => {
    const keyring = await folder();
    const key = await signingKey(keyring);
    const signature = key.sign('gone');
    const known = (await publicKeys(keyring)).get(key.id) ?? '';
    expect(isSignedBy(known, 'gone', signature)).toBe(true);
    expect(isSignedBy(known, 'gone.', signature)).toBe(false);
    expect(isSignedBy((await signingKey(await folder())).publicKey, 'gone', signature)).toBe(false);
  });

  test('of a later number signs, and what earlier ones signed can still be checked', async () => {
    const keyring = await folder();
    const first = await signingKey(keyring);
    const other = await folder();
    await signingKey(other);
    await fs.copyFile(path.join(other, 'signing-1.pem'), path.join(keyring, 'signing-2.pem'));
    const second = await signingKey(keyring);
    expect(second.id).toMatch(/^signing-2:/);
    expect([...(await publicKeys(keyring)).keys()].sort()).toEqual([first.id, second.id].sort());
  });
});

describe('a keyring is refused', () => {
  test('when others can look into its folder', async () => {
    const keyring = await folder();
    await signingKey(keyring);
    await fs.chmod(keyring, 0o750);
    await expect(signingKey(keyring)).rejects.toMatchObject({ code: 'keyring_refused', hint: `chmod 700 ${keyring}` });
  });

  test('when others can read a key of it', async () => {
    const keyring = await folder();
    await signingKey(keyring);
    await fs.chmod(path.join(keyring, 'signing-1.pem'), 0o640);
    await expect(signingKey(keyring)).rejects.toMatchObject({ code: 'keyring_refused' });
  });

  test('when a key of it is something else, without quoting it', async () => {
    const keyring = await folder();
    await signingKey(keyring);
    await fs.writeFile(path.join(keyring, 'signing-1.pem'), 'something secret');
    await expect(signingKey(keyring)).rejects.toMatchObject({ code: 'keyring_refused', message: expect.not.stringContaining('secret') });
  });
});
