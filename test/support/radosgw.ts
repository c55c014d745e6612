import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3';

/**
 * Debian's Ceph as an S3 server: one monitor, one object store in memory, one gateway, all on loopback and ended with the test file. Ready within a
 * second, for what takes the time otherwise is that the monitor proposes a change (of which a new gateway makes ten) once a second only.
 */
const programs = ['ceph-mon', 'ceph-osd', 'radosgw', 'radosgw-admin', 'ceph-authtool', 'monmaptool', 'ceph'].map((name) => `/usr/bin/${name}`);
const memoryBytes = 3 * 1024 ** 3;
const startMaxMs = 60_000;
const gatewayTriesMax = 3;
const logBytesMax = 8_000;
const run = promisify(execFile);

export const radosgwInstalled = programs.every((program) => existsSync(program));

export interface Credentials {
  readonly AWS_ACCESS_KEY_ID: string;
  readonly AWS_SECRET_ACCESS_KEY: string;
}

export interface Radosgw {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  /** For the `env` of `openStore`. */
  readonly credentials: Credentials;
  /** A bucket of a new name. */
  createBucket(options?: { readonly lock?: boolean; readonly versioned?: boolean }): Promise<string>;
  /** Another user, who owns nothing. */
  createUser(): Promise<Credentials>;
  /** Takes a user's key away, so that it is refused from now on. */
  revoke(credentials: Credentials): Promise<void>;
  stop(): Promise<void>;
}

/** @throws Error with the end of the logs when it does not start */
export async function startRadosgw(): Promise<Radosgw> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-rgw-'));
  const children: ChildProcess[] = [];
  let log = '';

  const stop = async (): Promise<void> => {
    await Promise.all(children.map((child) => ended(child)));
    await fs.rm(folder, { recursive: true, force: true });
  };
  const start = (program: string, args: readonly string[]): ChildProcess => {
    // Ends with this process, however that ends.
    const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', program, '-c', path.join(folder, 'ceph.conf'), ...args, '-f'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        log = (log + chunk.toString()).slice(-logBytesMax);
      });
    }
    children.push(child);
    return child;
  };

  try {
    const monitorPort = await freePort();
    const cluster = randomUUID();
    const keyring = path.join(folder, 'keyring');
    const config = path.join(folder, 'ceph.conf');
    await fs.writeFile(config, settings({ folder, cluster, monitorPort }));
    for (const name of ['mon', 'osd', 'run']) await fs.mkdir(path.join(folder, name));

    const key = (name: string, ...caps: string[]) =>
      run('ceph-authtool', [keyring, '--gen-key', '-n', name, ...caps.flatMap((cap) => ['--cap', ...cap.split('=')])]);
    await run('ceph-authtool', ['--create-keyring', keyring]);
    await key('mon.', 'mon=allow *');
    await key('client.admin', 'mon=allow *', 'osd=allow *', 'mgr=allow *');
    await key('osd.0', 'mon=allow profile osd', 'osd=allow *');
    const map = path.join(folder, 'monmap');
    await run('monmaptool', ['--create', '--fsid', cluster, '--addv', 'a', `[v2:127.0.0.1:${monitorPort}]`, map]);
    await run('ceph-mon', ['-c', config, '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring]);
    start('ceph-mon', ['-i', 'a']);

    const osd = randomUUID();
    await run('ceph', ['-c', config, 'osd', 'new', osd], { timeout: startMaxMs });
    await run('ceph-osd', ['-c', config, '-i', '0', '--mkfs', '--osd-uuid', osd]);
    start('ceph-osd', ['-i', '0']);

    const admin = (...args: string[]) => run('radosgw-admin', ['-c', config, ...args], { timeout: startMaxMs });
    const createUser = async (): Promise<Credentials> => {
      const created = { AWS_ACCESS_KEY_ID: `key${randomBytes(6).toString('hex')}`, AWS_SECRET_ACCESS_KEY: randomBytes(20).toString('hex') };
      const { AWS_ACCESS_KEY_ID: access, AWS_SECRET_ACCESS_KEY: secret } = created;
      await admin('user', 'create', `--uid=${access}`, '--display-name=test', `--access-key=${access}`, `--secret-key=${secret}`);
      return created;
    };
    const credentials = await createUser();
    const gatewayPort = await listening((port) => {
      const frontends = `beast endpoint=127.0.0.1:${port} tcp_nodelay=1`;
      return start('radosgw', ['-n', 'client.admin', '--keyring', keyring, '--rgw-frontends', frontends]);
    });

    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    return {
      endpoint,
      credentials,
      createUser,
      createBucket: (options = {}) => createBucket(endpoint, credentials, options),
      revoke: async ({ AWS_ACCESS_KEY_ID: access }) => {
        await admin('key', 'rm', `--uid=${access}`, `--access-key=${access}`, '--key-type=s3');
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw new Error(`radosgw does not start: ${log}`, { cause: error });
  }
}

async function createBucket(
  endpoint: string,
  { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }: Credentials,
  { lock = false, versioned = false }: { readonly lock?: boolean; readonly versioned?: boolean },
): Promise<string> {
  const client = new S3Client({ endpoint, forcePathStyle: true, region: 'us-east-1', credentials: { accessKeyId, secretAccessKey } });
  const name = `bucket-${randomBytes(6).toString('hex')}`;
  try {
    await client.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: lock }));
    if (versioned) await client.send(new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration: { Status: 'Enabled' } }));
    return name;
  } finally {
    client.destroy();
  }
}

interface Settings {
  readonly folder: string;
  readonly cluster: string;
  readonly monitorPort: number;
}

function settings({ folder, cluster, monitorPort }: Settings): string {
  return `[global]
fsid = ${cluster}
mon host = [v2:127.0.0.1:${monitorPort}]
mon initial members = a
public network = 127.0.0.0/8
keyring = ${folder}/keyring
mon data = ${folder}/mon
osd data = ${folder}/osd
run dir = ${folder}/run
admin socket = ${folder}/run/$name.$pid.asok
log file = /dev/null
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 1
osd objectstore = memstore
memstore device bytes = ${memoryBytes}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw enable apis = s3
rgw num control oids = 1
rgw gc max objs = 1
rgw lc max objs = 1
`;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL'); // what it holds is in memory and in a folder that goes too
  await exit;
}

/** Starts a gateway, and again where it ends at once: a port that was free can be another's a moment later. */
async function listening(start: (port: number) => ChildProcess): Promise<number> {
  for (let tries = 1; tries <= gatewayTriesMax; tries += 1) {
    const port = await freePort();
    const child = start(port);
    const deadline = Date.now() + startMaxMs;
    while (Date.now() < deadline && child.exitCode === null) {
      const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
      if (answer?.ok) return port;
      await new Promise((resolve) => setTimeout(resolve, 20)); // until it answers or ends, not for a time
    }
    await ended(child);
  }
  throw new Error(`the gateway ended, or did not answer, ${gatewayTriesMax} times`);
}

async function freePort(): Promise<number> {
  const probe = net.createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
