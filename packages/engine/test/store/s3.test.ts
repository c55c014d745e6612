import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe } from 'vitest';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../test/support/radosgw.ts';
import { openStore } from '../../src/store/open.ts';
import { type Candidate, conformance } from './conformance.ts';

const needed = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';

describe.skipIf(needed)('a bucket of Ceph', () => {
  let server: Radosgw;
  beforeAll(async () => {
    server = await startRadosgw();
  });
  afterAll(() => server.stop());

  describe('a bucket without versions', () => {
    conformance(candidateOf(() => server, {}));
  });

  describe('a bucket with versions and object lock', () => {
    conformance(candidateOf(() => server, { lock: true }));
  });
});

function candidateOf(server: () => Radosgw, { lock = false }: { readonly lock?: boolean }): () => Candidate {
  let opened: Candidate | undefined;
  beforeAll(async () => {
    const { endpoint, credentials } = server();
    const bucket = await server().createBucket({ lock });
    const store = await openStore(`s3://${bucket}/some/where?endpoint=${endpoint}${lock ? '&lock=governance' : ''}`, {
      env: { ...credentials },
      limits: { partBytes: 5 * 1024 * 1024 },
    });
    const client = new S3Client({
      endpoint,
      forcePathStyle: true,
      region: 'us-east-1',
      credentials: { accessKeyId: credentials.AWS_ACCESS_KEY_ID, secretAccessKey: credentials.AWS_SECRET_ACCESS_KEY },
    });
    const leftovers = async (): Promise<string[]> => {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
      return Uploads.map((upload) => upload.Key ?? '');
    };
    // Ceph 16 writes in a bucket with versions whatever the condition says.
    opened = { store, replaces: !lock, createsOnce: !lock, largeBytes: 13 * 1024 * 1024, leftovers };
  });
  return () => {
    if (!opened) throw new Error('not open yet');
    return opened;
  };
}
