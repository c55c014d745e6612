import { BlockList, isIP } from 'node:net';

/**
 * Addresses that are not the public internet: this machine, private and link-local networks (where clouds answer with credentials), carrier
 * NAT, documentation, benchmarking, multicast, and the ranges of IPv6 that carry an IPv4 address inside.
 */
const privateRanges = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  privateRanges.addSubnet(network, prefix, 'ipv4');
}
/** Global unicast is 2000::/3; what tunnels or documents inside it is no target either. */
const globalUnicast = new BlockList();
globalUnicast.addSubnet('2000::', 3, 'ipv6');
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  privateRanges.addSubnet(network, prefix, 'ipv6');
}

/** Whether an address is anything but one of the public internet; what is no address is too. */
export function isPrivateAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return privateRanges.check(address, 'ipv4');
  return family !== 6 || !globalUnicast.check(address, 'ipv6') || privateRanges.check(address, 'ipv6');
}
