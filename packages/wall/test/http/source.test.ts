import { describe, expect, test } from 'vitest';
import { sourceFinder } from '../../src/http/source.ts';

describe('the source of a request', () => {
  test.each<[string, string[], string | undefined, string | null, string | undefined]>([
    ['without proxies it is the peer, whatever is said', [], '203.0.113.5', '1.2.3.4', '203.0.113.5'],
    ['an IPv4 address in IPv6 clothes is the IPv4 address', [], '::ffff:203.0.113.5', null, '203.0.113.5'],
    ['an IPv6 address is in one spelling', [], '2001:DB8:0:0:0:0:0:1', null, '2001:db8::1'],
    ['a zone is no part of it', [], 'fe80::1%eth0', null, 'fe80::1'],
    ['behind a proxy it is who the proxy saw', ['10.0.0.0/8'], '10.0.0.1', '203.0.113.5', '203.0.113.5'],
    ['what the client made up before is not read', ['10.0.0.0/8'], '10.0.0.1', '1.2.3.4, 203.0.113.5', '203.0.113.5'],
    ['two proxies in a row', ['10.0.0.0/8', '192.0.2.7'], '10.0.0.1', '1.2.3.4, 203.0.113.5, 192.0.2.7', '203.0.113.5'],
    ['a proxy that is not ours is a client', ['10.0.0.0/8'], '198.51.100.1', '203.0.113.5', '198.51.100.1'],
    ['a port is no part of it', ['10.0.0.0/8'], '10.0.0.1', '203.0.113.5:4711', '203.0.113.5'],
    ['brackets are not either', ['::1'], '::1', '[2001:db8::2]:443', '2001:db8::2'],
    ['IPv6 networks', ['fd00::/8'], 'fd00::9', '2001:db8::2', '2001:db8::2'],
    ['garbage of our own proxy is nobody', ['10.0.0.0/8'], '10.0.0.1', '203.0.113.5, unknown', undefined],
    ['our own proxy alone is nobody', ['10.0.0.0/8'], '10.0.0.1', null, undefined],
    ['nothing but our own is nobody', ['10.0.0.0/8'], '10.0.0.1', '10.0.0.2, 10.0.0.3', undefined],
    ['no peer is nobody', [], undefined, '203.0.113.5', undefined],
    ['more hops than there can be', ['10.0.0.0/8'], '10.0.0.1', `203.0.113.5${', 10.0.0.2'.repeat(50)}`, undefined],
  ])('%s', (_, trusted, peer, forwarded, expected) => {
    expect(sourceFinder(trusted)(peer, forwarded)).toBe(expected);
  });

  test.each(['example.com', '10.0.0.0/33', '10.0.0.0/8/8', '10.0.0.0/', '10.0.0.0/-1', '::/129', ''])('%j is no proxy', (entry) => {
    expect(() => sourceFinder([entry])).toThrow(TypeError);
  });
});
