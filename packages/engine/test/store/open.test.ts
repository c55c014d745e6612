import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { openStore } from '../../src/store/open.ts';

const secret = 'hunter2hunter2';

test.each([
  `s3://key:${secret}@bucket/prefix?region=eu-1`,
  `s3://bucket/prefix?region=eu-1&secret-key=${secret}`,
  `s3://bucket/prefix?region=eu-1&endpoint=https://key:${secret}@127.0.0.1`,
  `s3://bucket/prefix?region=eu-1&endpoint=https://127.0.0.1/?token=${secret}`,
  `s3://bucket/prefix?region=${secret}${secret}${secret}${secret}${secret}${secret}`,
  `s3://bucket/prefix?region=eu-1&lock=${secret}`,
  `s3://bucket/prefix?region=eu-1&path-style=${secret}`,
  `https://key:${secret}@bucket`,
  `file://${secret}/var/backups`,
  `not a url ${secret}`,
])('a URL that is refused is not repeated: %s', async (url) => {
  const error = await openStore(url, { env: {} }).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: 'store_refused', exit: 2 });
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(secret);
});

test.each([
  ['s3:///prefix?region=eu-1', 'the bucket is no name'],
  ['s3://b/prefix?region=eu-1', 'the bucket is no name'],
  ['s3://bucket/A%20B?region=eu-1', 'is not the key'],
  ['s3://bucket:9000/prefix?region=eu-1', 'the bucket is no name'],
  ['s3://bucket/prefix', 'no region'],
  ['s3://bucket/prefix?region=eu-1&endpoint=ftp://127.0.0.1', 'no http or https URL'],
  ['s3://bucket/prefix?region=eu-1&retries=5', 'unknown parameters: retries'],
  ['s3://bucket/prefix?region=eu-1&lock=forever', 'lock is one of none, governance, compliance'],
  ['gs://bucket/prefix', 'no store of the kind gs:'],
  ['relative/path', 'no URL of a store'],
])('%s is refused: %s', async (url, message) => {
  await expect(openStore(url, { env: {} })).rejects.toMatchObject({ code: 'store_refused', message: expect.stringContaining(message) });
});
