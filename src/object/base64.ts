// Base64 as GLib decodes it: line feeds are skipped, and a last group of fewer than four characters is dropped.

import { QmpError } from '../qapi/errors.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const PADDING = '=';
const NUL = 0;

/** The bytes that `text` (ASCII) stands for. Throws QmpError for characters that are not base64. */
export function decodeBase64(text: Buffer): Buffer {
  if (text.includes(NUL)) {
    throw new QmpError('Base64 data contains embedded NUL characters');
  }
  const characters = text.toString('latin1');
  if (!/^[A-Za-z0-9+/=\n]*$/.test(characters)) {
    throw new QmpError('Base64 data contains invalid characters');
  }
  const groups = characters.replaceAll('\n', '').match(/.{4}/g) ?? [];
  const bytes: number[] = [];
  for (const group of groups) {
    let bits = 0;
    for (const character of group) {
      bits = (bits << 6) | Math.max(0, ALPHABET.indexOf(character));
    }
    bytes.push(bits >> 16);
    if (group[2] !== PADDING) bytes.push((bits >> 8) & 0xff);
    if (group[3] !== PADDING) bytes.push(bits & 0xff);
  }
  return Buffer.from(bytes);
}
