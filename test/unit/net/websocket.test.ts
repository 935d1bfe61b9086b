import { describe, expect, it } from 'vitest';
import { WebSocketServer } from '../../../src/net/chardev/websocket.ts';

const REQUEST = [
  'GET / HTTP/1.1',
  'Host: x',
  'Upgrade: websocket',
  'Connection: keep-alive, Upgrade',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 13',
];

function request(change: (lines: string[]) => string[] = (lines) => lines): Buffer {
  return Buffer.from([...change([...REQUEST]), '', ''].join('\r\n'));
}

function upgraded(): WebSocketServer {
  const server = new WebSocketServer();
  server.receive(request());
  return server;
}

function frame(first: number, payload: string, options: { masked?: boolean } = {}): Buffer {
  const { masked = true } = options;
  const bytes = Buffer.from(payload, 'latin1');
  const length =
    bytes.length < 126 ? [bytes.length] : [126, bytes.length >> 8, bytes.length & 0xff];
  const mask = [0x61, 0x62, 0x63, 0x64];
  const [short = 0, ...long] = length;
  const header = [first, masked ? 0x80 | short : short, ...long, ...(masked ? mask : [])];
  const body = masked ? bytes.map((byte, at) => byte ^ (mask[at % 4] as number)) : bytes;
  return Buffer.concat([Buffer.from(header), body]);
}

function text(parts: readonly Uint8Array[]): string {
  return Buffer.concat(parts).toString('latin1');
}

describe('WebSocketServer', () => {
  it('answers the sample handshake of RFC 6455', () => {
    const server = new WebSocketServer();
    const { replies, ended } = server.receive(request());
    expect(text(replies)).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
    expect(text(replies)).toContain('Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n');
    expect(ended).toBe(false);
    expect(server.upgraded).toBe(true);
  });

  it.each([
    ['another path', (lines: string[]) => ['GET /x HTTP/1.1', ...lines.slice(1)], '404'],
    ['another method', (lines: string[]) => ['POST / HTTP/1.1', ...lines.slice(1)], '400'],
    ['HTTP/1.0', (lines: string[]) => ['GET / HTTP/1.0', ...lines.slice(1)], '400'],
    ['no host', (lines: string[]) => lines.filter((line) => !line.startsWith('Host')), '400'],
    ['a short key', (lines: string[]) => lines.map((l) => l.replace('dGhlI', '')), '400'],
    ['another version', (lines: string[]) => lines.map((l) => l.replace(': 13', ': 12')), '400'],
    ['another protocol', (lines: string[]) => [...lines, 'Sec-WebSocket-Protocol: foo'], '400'],
    ['a line without a colon', (lines: string[]) => [...lines, 'abc'], '400'],
    ['33 headers', (lines: string[]) => [...lines, ...new Array<string>(28).fill('A: b')], '400'],
  ])('refuses %s', (_what, change, status) => {
    const { replies, ended } = new WebSocketServer().receive(request(change));
    expect(text(replies)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(ended).toBe(true);
  });

  it('refuses a request that has no end within 4096 bytes', () => {
    const { replies } = new WebSocketServer().receive(Buffer.alloc(4096, 'x'));
    expect(text(replies)).toMatch(/^HTTP\/1\.1 403 Request Entity Too Large\r\n/);
  });

  it('puts fragments together, with a ping in between', () => {
    const server = upgraded();
    expect(text(server.receive(frame(0x02, 'he')).input)).toBe('he');
    expect(text(server.receive(frame(0x89, 'ping')).replies)).toBe('\x8a\x04ping');
    expect(text(server.receive(frame(0x80, 'llo')).input)).toBe('llo');
  });

  it('takes a frame in any pieces', () => {
    const server = upgraded();
    const whole = frame(0x82, 'x'.repeat(200));
    let input = '';
    for (const byte of whole) input += text(server.receive(Uint8Array.of(byte)).input);
    expect(input).toBe('x'.repeat(200));
  });

  it.each([
    ['close', frame(0x88, '\x03\xe8bye'), '\x03\xe8peer requested close'],
    ['text', frame(0x81, 'x'), '\x03\xebonly binary, close, ping, and pong frames are supported'],
    ['fragmented text', frame(0x01, 'x'), '\x03\xf0only binary frames may be fragmented'],
    ['unmasked', frame(0x82, 'x', { masked: false }), '\x03\xeaclient frames must be masked'],
    ['long ping', frame(0x89, 'x'.repeat(126)), '\x03\xeacontrol frame is too large'],
  ])('ends with a close frame for %s', (_what, bytes, payload) => {
    const { replies, ended } = upgraded().receive(bytes);
    expect(text(replies)).toBe(`\x88${String.fromCharCode(payload.length)}${payload}`);
    expect(ended).toBe(true);
  });

  it('frames output by its length', () => {
    const server = upgraded();
    expect([...server.encode(new Uint8Array(125)).subarray(0, 2)]).toEqual([0x82, 125]);
    expect([...server.encode(new Uint8Array(126)).subarray(0, 4)]).toEqual([0x82, 126, 0, 126]);
    expect([...server.encode(new Uint8Array(65536)).subarray(0, 10)]).toEqual([
      0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0,
    ]);
  });
});
