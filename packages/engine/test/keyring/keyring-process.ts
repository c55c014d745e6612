import fs from 'node:fs/promises';
import path from 'node:path';
import type { Subject } from '../../src/keyring/data-keys.ts';
import { type Keyring, openKeys } from '../../src/keyring/keyring.ts';
import { fileSource } from '../../src/keyring/sources/file-source.ts';
import { openFolderStore } from '../../src/store/folder.ts';

export interface KeyringProcess {
  /** Holds `keyring`, `keys` and `escrow`. */
  readonly root: string;
  readonly work:
    | { readonly kind: 'ensure'; readonly subjects: readonly Subject[] }
    | { readonly kind: 'rekey' | 'destroy'; readonly subject: Subject }
    | { readonly kind: 'rotate' };
  readonly times?: number;
  /** Ends itself by SIGKILL at this call of the file system: before it, or after it has done its work. */
  readonly kill?: { readonly call: number; readonly after: boolean };
}

/** Does one thing with a keyring, and prints what came of it. Argument: `KeyringProcess` as JSON. */
const given = JSON.parse(process.argv[2] ?? '') as KeyringProcess; // written by the test beside it
if (given.kill) killAt(given.kill);
const keyring = path.join(given.root, 'keyring');
const [book, escrow] = await Promise.all(['keys', 'escrow'].map((name) => openFolderStore(path.join(given.root, name))));
if (!book || !escrow) throw new Error('two stores were opened');
const keys = await openKeys({ keyring, book, escrow, source: fileSource(keyring), clock: () => new Date() });
const results: unknown[] = [];
for (let time = 0; time < (given.times ?? 1); time += 1) results.push(await done(keys, given.work));
process.stdout.write(JSON.stringify(results));

async function done(open: Keyring, work: KeyringProcess['work']): Promise<unknown> {
  switch (work.kind) {
    case 'ensure':
      return [...(await open.ensure(work.subjects))].map(([subject, { id }]) => [subject, id]);
    case 'rotate':
      return open.rotate();
    case 'rekey':
      return (await open.rekey(work.subject)).id;
    case 'destroy':
      return open.destroy(work.subject);
  }
}

/** Every call that changes something, of all modules of this process: they use one object. */
function killAt({ call, after }: NonNullable<KeyringProcess['kill']>): void {
  let calls = 0;
  const die = (): void => {
    calls += 1;
    if (calls === call) process.kill(process.pid, 'SIGKILL');
  };
  const counted =
    <Given extends unknown[], Result>(run: (...args: Given) => Promise<Result>) =>
    async (...args: Given): Promise<Result> => {
      if (!after) die();
      const result = await run(...args);
      if (after) die();
      return result;
    };
  Object.assign(fs, { link: counted(fs.link), rename: counted(fs.rename), rm: counted(fs.rm), open: counted(fs.open), writeFile: counted(fs.writeFile) });
}
