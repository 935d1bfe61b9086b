import { describe, expect, it } from 'vitest';
import { TelnetDecoder } from '../../../src/net/chardev/telnet.ts';

function decode(decoder: TelnetDecoder, text: string): string {
  return Buffer.from(decoder.decode(Buffer.from(text, 'latin1'))).toString('latin1');
}

describe('TelnetDecoder', () => {
  it('takes commands of two and three bytes out, wherever the input is cut', () => {
    const decoder = new TelnetDecoder({ tn3270: false });
    const whole = 'a\xff\xfb\x01b\xff\xf3c\xff\xffd';
    const pieces = Array.from(whole, (byte) => decode(decoder, byte)).join('');
    expect(pieces).toBe('abc\xffd');
    expect(decode(new TelnetDecoder({ tn3270: false }), whole)).toBe('abc\xffd');
  });

  it('keeps record marks for TN3270, also when IAC came before', () => {
    const decoder = new TelnetDecoder({ tn3270: true });
    expect(decode(decoder, 'a\xff')).toBe('a');
    expect(decode(decoder, '\xefb')).toBe('\xff\xefb');
    expect(decode(decoder, '\xff\xf1c\xff\xfd\x00d')).toBe('cd');
  });

  it('greets a TN3270 client with end-of-record, binary mode and a question for its type', () => {
    const { greeting } = new TelnetDecoder({ tn3270: true });
    expect(Buffer.from(greeting).toString('hex')).toBe(
      'fffd19fffb19fffd00fffb00fffd18fffa1801fff0',
    );
  });
});
