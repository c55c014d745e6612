import { openStore } from '../../src/store/open.ts';

/** A process of its own, for what happens to processes: `<url> count <key> <times>`, `<url> pour <key>`, `<url> fill <key> <bytes>`. */
const [url = '', what = '', key = '', amount = '0'] = process.argv.slice(2);
const store = await openStore(url);

switch (what) {
  case 'count':
    await count(Number(amount));
    break;
  case 'pour':
    await store.put(key, pour());
    break;
  case 'fill': {
    const code = await store.put(key, Buffer.alloc(Number(amount), 1)).then(
      () => 'stored',
      (error: unknown) => (typeof error === 'object' && error !== null && 'code' in error ? error.code : String(error)),
    );
    process.stdout.write(`${code}\n`);
    break;
  }
}

/** Adds one so many times to a number that other processes count in as well. */
async function count(times: number): Promise<void> {
  for (let done = 0; done < times; ) {
    const found = await store.head(key);
    if (!found) throw new Error(`no ${key}`);
    const parts: Buffer[] = [];
    for await (const part of store.get(key)) parts.push(part);
    try {
      await store.put(key, Buffer.from(String(Number(Buffer.concat(parts).toString()) + 1)), { ifMatch: found.tag });
      done += 1;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'store_conflict')) throw error;
    }
  }
}

/** Says so when the first bytes are taken, and never ends. */
async function* pour(): AsyncGenerator<Buffer> {
  yield Buffer.alloc(1_000_000, 1);
  process.stdout.write('pouring\n');
  await new Promise(() => setInterval(() => undefined, 60_000));
}
