import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

/** What may go wrong between a store and its server; each happens on a real connection. */
export type Fault =
  /** Answered without asking the server. */
  | { readonly kind: 'answer'; readonly status: number; readonly code: string }
  /** Closed before the server is asked. */
  | { readonly kind: 'reset' }
  /** Never answered. */
  | { readonly kind: 'silence' }
  /** The server does it, and the answer is lost. */
  | { readonly kind: 'lost-answer' }
  /** The body ends after so many bytes: with the connection, or in silence. */
  | { readonly kind: 'cut'; readonly bytes: number; readonly ending: 'reset' | 'silence' }
  /** A listing without the entries whose key holds this. */
  | { readonly kind: 'missing-entries'; readonly holding: string };

export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Counted from 1. */
  readonly number: number;
}

export interface FaultyS3 {
  readonly endpoint: string;
  /** All requests so far. */
  readonly requests: readonly SeenRequest[];
  /** From now on, each request is asked for its fault; undefined lets it through. */
  inject(choose: (request: SeenRequest) => Fault | undefined): void;
  stop(): Promise<void>;
}

const errorBody = (code: string): string => `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>injected</Message></Error>`;

/** A proxy in front of an S3 server. Signatures hold: it passes the host on that the client signed. */
export async function startFaultyS3(target: string): Promise<FaultyS3> {
  const { hostname, port } = new URL(target);
  const requests: SeenRequest[] = [];
  let choose: (request: SeenRequest) => Fault | undefined = () => undefined;

  const forward = (request: IncomingMessage): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const onward = http.request({ hostname, port, method: request.method, path: request.url, headers: request.headers, agent: false }, resolve);
      onward.on('error', reject);
      request.on('close', () => {
        if (!request.complete) onward.destroy();
      });
      request.pipe(onward);
    });

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const seen = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, number: requests.length + 1 };
    requests.push(seen);
    const fault = choose(seen);
    switch (fault?.kind) {
      case 'reset':
        request.socket.destroy();
        return;
      case 'silence':
        request.resume();
        return;
      case 'answer':
        request.resume();
        response.writeHead(fault.status, { 'content-type': 'application/xml' }).end(request.method === 'HEAD' ? undefined : errorBody(fault.code));
        return;
    }
    const answer = await forward(request);
    if (fault?.kind === 'lost-answer') {
      for await (const _chunk of answer); // so that it is done when the client hears of it
      request.socket.destroy();
      return;
    }
    if (fault?.kind === 'missing-entries') {
      const body = (await text(answer)).replaceAll(/<Contents>.*?<\/Contents>/gs, (entry) => (entry.includes(fault.holding) ? '' : entry));
      response.writeHead(answer.statusCode ?? 0, { 'content-type': 'application/xml' }).end(body);
      return;
    }
    response.writeHead(answer.statusCode ?? 0, answer.headers);
    if (fault?.kind === 'cut') await cut(answer, response, fault);
    else await pipeline(answer, response);
  };

  const server = http.createServer((request, response) => {
    serve(request, response).catch(() => request.socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests,
    inject: (chosen) => {
      choose = chosen;
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function cut(
  answer: IncomingMessage,
  response: ServerResponse,
  { bytes, ending }: { readonly bytes: number; readonly ending: 'reset' | 'silence' },
): Promise<void> {
  let left = bytes;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    const given = chunk.subarray(0, left);
    left -= given.length;
    await new Promise<void>((resolve) => response.write(given, () => resolve()));
    if (left === 0) break;
  }
  if (ending === 'reset') response.socket?.destroy();
}
