import { PartywallError } from '../errors.ts';
import { checkKey } from './key.ts';

/** Where a bucket is, from `s3://bucket/prefix?endpoint=...&region=...&path-style=true&lock=compliance`. Credentials are never part of it. */
export interface S3Location {
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
  /** Undefined: Amazon's own. */
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly pathStyle: boolean;
  readonly lock: 'GOVERNANCE' | 'COMPLIANCE' | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

const parameters: ReadonlySet<string> = new Set(['endpoint', 'region', 'path-style', 'lock']);
const bucketPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/;
const regionPattern = /^[a-z0-9-]{1,64}$/;
/** What servers that have no regions are asked with. */
const anyRegion = 'us-east-1';
const hint = 's3://bucket/prefix?endpoint=https://...&region=...&path-style=true|false&lock=governance|compliance; credentials come from the environment';

/**
 * Messages never hold the URL: somebody may have put a secret into it.
 *
 * @throws PartywallError store_refused
 */
export function parseS3Url(url: URL, env: Environment): S3Location {
  if (url.username !== '' || url.password !== '') throw refusal('a URL holds no credentials');
  const given = url.searchParams;
  const unknown = [...given.keys()].filter((name) => !parameters.has(name));
  if (unknown.length > 0) throw refusal(`unknown parameters: ${unknown.join(', ')}`);
  if (url.port !== '' || !bucketPattern.test(url.hostname)) throw refusal('the bucket is no name of a bucket');

  const prefix = url.pathname.replace(/^\/+|\/+$/g, '');
  if (prefix !== '') checkKey(prefix);
  const endpoint = given.get('endpoint') ?? undefined;
  return {
    bucket: url.hostname,
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint: endpoint === undefined ? undefined : parseEndpoint(endpoint),
    region: parseRegion(given.get('region') ?? env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'] ?? (endpoint === undefined ? '' : anyRegion)),
    pathStyle: parseChoice('path-style', given.get('path-style') ?? String(endpoint !== undefined), { true: true, false: false }),
    lock: parseChoice('lock', given.get('lock') ?? 'none', { none: undefined, governance: 'GOVERNANCE', compliance: 'COMPLIANCE' }),
  };
}

function parseEndpoint(text: string): string {
  const endpoint = URL.canParse(text) ? new URL(text) : undefined;
  if (!endpoint || !/^https?:$/.test(endpoint.protocol)) throw refusal('the endpoint is no http or https URL');
  if (endpoint.username !== '' || endpoint.password !== '' || endpoint.search !== '') throw refusal('the endpoint holds more than a host and a path');
  return endpoint.href.replace(/\/$/, '');
}

function parseRegion(region: string): string {
  if (region === '') throw refusal('no region: name it in the URL or in AWS_REGION');
  if (!regionPattern.test(region)) throw refusal('the region is no name of a region');
  return region;
}

function parseChoice<T>(name: string, value: string, choices: Readonly<Record<string, T>>): T {
  const found = Object.entries(choices).find(([choice]) => choice === value);
  if (!found) throw refusal(`${name} is one of ${Object.keys(choices).join(', ')}`);
  return found[1];
}

function refusal(what: string): PartywallError {
  return new PartywallError('store_refused', `opening an S3 store: ${what}`, { hint });
}
