import net from 'node:net';

/** Proxies that are asked who is behind them; more in a row is nobody's network. */
const hopsMax = 20;

/**
 * Finds the address that a request came from. `X-Forwarded-For` is read from its end, and only as far as proxies of one's own wrote it: what stands
 * before may be made up by whoever asks.
 *
 * @param trusted addresses and networks of one's own proxies, such as `10.0.0.0/8`
 * @returns a function that gives the address, or undefined where there is none to hold anything against: a proxy of one's own, or garbage
 * @throws TypeError where an entry is neither an address nor a network
 */
export function sourceFinder(trusted: readonly string[]): (peer: string | undefined, forwardedFor: string | null) => string | undefined {
  const own = new net.BlockList();
  for (const entry of trusted) addTo(own, entry);
  const isOwn = (address: string): boolean => own.check(address, net.isIPv6(address) ? 'ipv6' : 'ipv4');
  return (peer, forwardedFor) => {
    const hops = (forwardedFor ?? '').split(',').slice(-hopsMax);
    let address = plainAddress(peer);
    while (address !== undefined && isOwn(address)) address = plainAddress(hops.pop());
    return address;
  };
}

function addTo(list: net.BlockList, entry: string): void {
  const [address = '', prefix, ...rest] = entry.split('/');
  const family = net.isIPv6(address) ? 'ipv6' : 'ipv4';
  const bits = family === 'ipv6' ? 128 : 32;
  const length = prefix === undefined ? bits : Number(prefix);
  const fits = /^\d{1,3}$/.test(prefix ?? '0') && length <= bits;
  if (net.isIP(address) === 0 || !fits || rest.length > 0) throw new TypeError(`trustedProxies: ${JSON.stringify(entry)} is neither an address nor a network`);
  list.addSubnet(address, length, family);
}

/** The address without port, zone and brackets; an IPv4 address in IPv6 clothes is the IPv4 address. */
function plainAddress(text: string | undefined): string | undefined {
  const bare = (text ?? '').trim();
  const unbracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(bare)?.[1] ?? (/^[\d.]+:\d{1,5}$/.test(bare) ? bare.slice(0, bare.indexOf(':')) : bare);
  const address = unbracketed.split('%', 1)[0] ?? '';
  if (net.isIPv4(address)) return address;
  if (!net.isIPv6(address)) return undefined;
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical) ?? [];
  if (high === undefined || low === undefined) return canonical;
  return [high, low].flatMap((half) => [Number.parseInt(half, 16) >> 8, Number.parseInt(half, 16) & 255]).join('.');
}
