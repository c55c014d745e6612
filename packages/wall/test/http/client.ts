import http from 'node:http';
import { generateKeyPair, SignJWT } from 'jose';
import { jwtBearer } from '../../src/http/jwt.ts';
import type { Verify } from '../../src/index.ts';

export interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON. */
  json(): Record<string, unknown>;
}

export interface Sent {
  readonly method?: string;
  /** A list is sent as so many headers. */
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string;
  /** The rest of the body, once it is there. */
  readonly rest?: Promise<string>;
  readonly agent?: http.Agent;
  readonly signal?: AbortSignal;
}

/** A request that is sent as it is: no header is joined, checked or added. Rejects where the answer breaks off. */
export function send(url: string, { method = 'GET', headers = {}, body, rest, agent, signal }: Sent = {}): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>();
  const request = http.request(url, { method, headers, agent: agent ?? false, ...(signal && { signal }) }, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('error', reject);
    response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: () => JSON.parse(text) }));
  });
  request.on('error', reject);
  if (rest) {
    request.write(body ?? '');
    rest.then((more) => request.end(more), reject);
  } else {
    request.end(body);
  }
  return promise;
}

/** An issuer of tokens, and the verifier that knows it. */
export interface Issuer {
  readonly verify: Verify;
  /** Headers of somebody who may act for these tenants. */
  credential(tenants: string | readonly string[], claims?: Readonly<Record<string, unknown>>): Promise<{ authorization: string }>;
}

const issuer = 'https://login.example.com';
const audience = 'items';

export async function tokenIssuer(): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  return {
    verify: jwtBearer({ issuer, audience, algorithms: ['ES256'], key: publicKey, claims: { unit: 'unit' } }),
    credential: async (tenant, claims) => {
      const token = await new SignJWT({ tenant, ...claims })
        .setProtectedHeader({ alg: 'ES256' })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject(claims?.['sub'] === undefined ? 'u_1' : String(claims['sub']))
        .setExpirationTime('5m')
        .sign(privateKey);
      return { authorization: `Bearer ${token}` };
    },
  };
}
