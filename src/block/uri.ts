// URIs of RFC 3986, as far as file names have them. https://www.rfc-editor.org/rfc/rfc3986

interface Parameter {
  readonly name: string;
  /** Undefined where there is no equals sign. */
  readonly value: string | undefined;
}

export interface Uri {
  readonly scheme: string;
  /** With the brackets of an IP literal; undefined when there is none, or an empty one. */
  readonly host: string | undefined;
  /** 0 when there is none. */
  readonly port: number;
  readonly path: string;
  /** Of the query. */
  readonly parameters: readonly Parameter[];
}

const OWN = "A-Za-z0-9._~!$&'()*+,;=\\-";
const ESCAPED = '%[0-9A-Fa-f]{2}';
const PCHAR = `(?:[${OWN}:@]|${ESCAPED})`;
const AUTHORITY = `(?:(?:[${OWN}:]|${ESCAPED})*@)?(\\[[^\\]]*\\]|(?:[${OWN}]|${ESCAPED})*)(?::([0-9]+))?`;
const PATH = `/(?:${PCHAR}+(?:/${PCHAR}*)*)?|${PCHAR}+(?:/${PCHAR}*)*|`;
const SHAPE = new RegExp(
  `^([A-Za-z][A-Za-z0-9+.-]*):(?://${AUTHORITY}((?:/${PCHAR}*)*)|(${PATH}))` +
    `(?:\\?((?:${PCHAR}|[/?])*))?(?:#(?:${PCHAR}|[/?[\\]])*)?$`,
);

/** Escapes are taken out. Undefined for what is no URI with a scheme. */
export function parseUri(text: string): Uri | undefined {
  const match = SHAPE.exec(text);
  if (match === null) return undefined;
  const [, scheme = '', host = '', port = '0', below, other = '', query = ''] = match;
  if (Number(port) > 0xffff) return undefined;
  return {
    scheme,
    host: host === '' ? undefined : unescaped(host),
    port: Number(port),
    path: unescaped(below ?? other),
    parameters: parametersOf(query),
  };
}

/** The parts are between ampersands; behind the last one semicolons do as well, as in the reference. */
function parametersOf(query: string): Parameter[] {
  const ampersands = query.split('&');
  const last = ampersands.pop() ?? '';
  return [...ampersands, ...last.split(';')].flatMap((part): Parameter[] => {
    const at = part.indexOf('=');
    if (part === '' || at === 0) return [];
    if (at < 0) return [{ name: unescaped(part), value: undefined }];
    return [{ name: unescaped(part.slice(0, at)), value: unescaped(part.slice(at + 1)) }];
  });
}

/** Bytes above 127 are UTF-8. */
function unescaped(text: string): string {
  if (!text.includes('%')) return text;
  const bytes = text.replaceAll(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString();
}
