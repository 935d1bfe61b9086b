// `--chardev BACKEND,id=ID,KEY=VALUE...`: the options there are, and what they are in terms of the schema. Their texts are
// checked against the types below before they come here.

import { QmpError } from '../../qapi/errors.ts';
import type {
  ChardevBackend,
  ChardevBackendKind,
  ChardevCommon,
  ChardevSocket,
  SocketAddressLegacy,
} from '../../qapi/generated/types.ts';
import { isBackendKind } from './backends.ts';

/** The parsed options: what the command line's parser hands over. */
export interface ChardevOptions {
  readonly id: string | undefined;
  /** The text of an option, if it was given. */
  get(name: string): string | undefined;
}

/** The declared options: every one of the reference's, whether a backend of ours uses it or not. */
export const chardevOptionList = {
  name: 'chardev',
  impliedKey: 'backend',
  options: {
    backend: 'str',
    path: 'str',
    host: 'str',
    port: 'str',
    fd: 'str',
    localaddr: 'str',
    localport: 'str',
    to: 'num',
    ipv4: 'bool',
    ipv6: 'bool',
    wait: 'bool',
    server: 'bool',
    delay: 'bool',
    nodelay: 'bool',
    reconnect: 'num',
    telnet: 'bool',
    tn3270: 'bool',
    'tls-creds': 'str',
    'tls-authz': 'str',
    websocket: 'bool',
    width: 'num',
    height: 'num',
    cols: 'num',
    rows: 'num',
    mux: 'bool',
    signal: 'bool',
    name: 'str',
    debug: 'num',
    size: 'size',
    chardev: 'str',
    append: 'bool',
    logfile: 'str',
    logappend: 'bool',
    mouse: 'bool',
    clipboard: 'bool',
    tight: 'bool',
    abstract: 'bool',
  },
} as const;

export const formerKinds: { readonly [former: string]: ChardevBackendKind } = { tty: 'serial' };

/** True for `--chardev help`, which is answered with backendKindsHelp(). */
export function isHelpRequest(options: ChardevOptions): boolean {
  const backend = options.get('backend');
  return backend === 'help' || backend === '?';
}

/** The former name of a kind, if the options use it. */
export function formerKind(options: ChardevOptions): string | undefined {
  const kind = options.get('backend') ?? '';
  return Object.hasOwn(formerKinds, kind) ? kind : undefined;
}

/** The backend that the options describe. Throws QmpError. */
export function backendFromOptions(options: ChardevOptions): ChardevBackend {
  const former = formerKind(options);
  const kind = former === undefined ? options.get('backend') : formerKinds[former];
  if (kind === undefined) throw new QmpError(`chardev: "${options.id}" missing backend`);
  // What files, pipes and stdio have in common has a name in the reference, too.
  if (kind === 'fd') throw new QmpError("Parameter 'driver' expects a non-abstract device type");
  if (!isBackendKind(kind)) throw new QmpError(`'${kind}' is not a valid char driver name`);
  return { type: kind, data: data[kind](options) } as ChardevBackend;
}

/** Whether several users shall share the chardev. */
export function wantsMux(options: ChardevOptions): boolean {
  return flag(options, 'mux') === true;
}

const data = {
  file(options) {
    const out = options.get('path');
    if (out === undefined) throw new QmpError('chardev: file: no filename given');
    return { ...common(options), out, append: flag(options, 'append') ?? false };
  },
  serial(options) {
    const device = options.get('path');
    if (device === undefined) throw new QmpError('chardev: serial/tty: no device path given');
    return { ...common(options), device };
  },
  pipe(options) {
    const device = options.get('path');
    if (device === undefined) throw new QmpError('chardev: pipe: no device path given');
    return { ...common(options), device };
  },
  socket,
  pty: common,
  null: common,
  mux(options) {
    const chardev = options.get('chardev');
    if (chardev === undefined) throw new QmpError('chardev: mux: no chardev given');
    return { ...common(options), chardev };
  },
  stdio: (options) => ({ ...common(options), signal: flag(options, 'signal') ?? true }),
  ringbuf,
  memory: ringbuf,
} satisfies Record<ChardevBackendKind, (options: ChardevOptions) => ChardevCommon>;

function common(options: ChardevOptions): ChardevCommon {
  const logappend = flag(options, 'logappend') ?? false;
  return given({ logfile: options.get('logfile'), logappend });
}

function ringbuf(options: ChardevOptions): ChardevCommon {
  // The reference keeps 32 bits of it, and takes 0 for "not given".
  const size = Number(BigInt.asIntN(32, sizeOf(options.get('size') ?? '0')));
  return size === 0 ? common(options) : given({ ...common(options), size });
}

/** Differs from the schema's defaults: a client unless `server=on`, and a server waits unless `wait=off`. */
function socket(options: ChardevOptions): ChardevSocket {
  const addr = addressOf(options);
  const base = common(options);
  const [delay, nodelay] = [flag(options, 'delay'), flag(options, 'nodelay')];
  if (delay !== undefined && nodelay !== undefined) {
    throw new QmpError("'delay' and 'nodelay' are mutually exclusive");
  }
  const server = flag(options, 'server') ?? false;
  const reconnect = options.get('reconnect');
  return given({
    ...base,
    addr,
    nodelay: delay === undefined ? nodelay : !delay,
    server,
    telnet: flag(options, 'telnet'),
    tn3270: flag(options, 'tn3270'),
    websocket: flag(options, 'websocket'),
    wait: flag(options, 'wait') ?? (server ? true : undefined),
    reconnect:
      reconnect === undefined ? undefined : Number(BigInt.asIntN(64, integerOf(reconnect))),
    'tls-creds': options.get('tls-creds'),
    'tls-authz': options.get('tls-authz'),
  }) as ChardevSocket;
}

function addressOf(options: ChardevOptions): SocketAddressLegacy {
  const [path, host, fd, port] = ['path', 'host', 'fd', 'port'].map((name) => options.get(name));
  if ([path, host, fd].filter((value) => value !== undefined).length > 1) {
    throw new QmpError("None or one of 'path', 'fd' or 'host' option required.");
  }
  if (host !== undefined && port === undefined)
    throw new QmpError('chardev: socket: no port given');
  if (path !== undefined) {
    const tight = flag(options, 'tight') ?? true;
    const abstract = flag(options, 'abstract') ?? false;
    return { type: 'unix', data: { path, tight, abstract } };
  }
  if (host !== undefined) {
    const to = options.get('to');
    const inet = given({
      host,
      port,
      to: to === undefined ? undefined : Number(BigInt.asUintN(16, integerOf(to))),
      ipv4: flag(options, 'ipv4'),
      ipv6: flag(options, 'ipv6'),
    });
    return { type: 'inet', data: inet } as SocketAddressLegacy;
  }
  return { type: 'fd', data: { str: fd ?? '' } };
}

/** The members that have a value. */
function given<T extends object>(members: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== undefined),
  ) as ReturnType<typeof given<T>>;
}

function flag(options: ChardevOptions, name: string): boolean | undefined {
  const text = options.get(name);
  return text === undefined ? undefined : ['on', 'yes', 'true', 'y'].includes(text);
}

/** As strtoull reads it: decimal, 0x, or octal behind a 0; a minus sign wraps around. */
function integerOf(text: string): bigint {
  const [, sign, digits = '0'] = /^\s*([-+]?)(\w+)$/.exec(text) ?? [];
  const magnitude = BigInt(/^0\d/.test(digits) ? `0o${digits.slice(1)}` : digits);
  return sign === '-' ? -magnitude : magnitude;
}

/** `512`, `4k`, `1.5G`. */
function sizeOf(text: string): bigint {
  const [, number = '0', suffix = ''] =
    /^\s*\+?(0[xX][0-9a-fA-F]+|[\d.]+)([a-zA-Z]?)$/.exec(text) ?? [];
  const power = Math.max(0, 'BKMGTPE'.indexOf(suffix.toUpperCase() || 'B'));
  return number.includes('.')
    ? BigInt(Math.round(Number(number) * 1024 ** power))
    : BigInt(number) * 1024n ** BigInt(power);
}
