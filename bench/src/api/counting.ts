import { type Pairs, pairs } from '../report.ts';

/**
 * The same list with and without the accounting of its route (usage, API calls, rate), one request at a time over a kept-alive connection,
 * in pairs: what accounting adds to the request.
 */
export function compareCounting(origin: string, token: string, runs: number): Promise<Pairs> {
  const headers = { authorization: `Bearer ${token}` };
  const ask = async (path: string): Promise<void> => {
    const answer = await fetch(`${origin}${path}?limit=50`, { headers });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    await answer.arrayBuffer();
  };
  return pairs(
    () => ask('/api/customers'),
    () => ask('/api/customers/uncounted'),
    runs,
  );
}
