// How each kind of step is carried out on a daemon: a row per kind, the answer as lines.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { callsOn } from '../helpers/fuse.ts';
import { fixture } from '../helpers/tls-files.ts';
import type { Step } from './case.ts';
import type { DaemonProcess } from './daemon-process.ts';
import { NbdPeer } from './nbd-peer.ts';
import type { QmpLink } from './qmp-link.ts';

/** What the steps of one case work with. */
export interface Stage {
  readonly daemon: DaemonProcess;
  /** Monitor connections by name; they outlive a case. */
  readonly links: Map<string, QmpLink>;
  /** NBD connections by name, of this case alone. */
  readonly peers: Map<string, NbdPeer>;
  readonly patienceMs: number;
  /** What the case was answered with up to now. */
  readonly answers: readonly string[];
}

type Performer<Kind extends Step['do']> = (
  step: Extract<Step, { do: Kind }>,
  stage: Stage,
) => readonly string[] | Promise<readonly string[]>;

const performers = {
  command: (step, stage) =>
    link(stage, step.on).command(located(stage, step.line), stage.patienceMs),
  'command until': async (step, stage) => {
    for (;;) {
      const lines = await link(stage, step.on).command(located(stage, step.line), stage.patienceMs);
      const last = lines.at(-1) ?? '';
      if (last.includes(step.has) || last.startsWith('<')) return lines;
    }
  },
  raw: (step, stage) => {
    link(stage, step.on).send(step.bytes);
    return link(stage, step.on).sync();
  },
  send: (step, stage) => {
    link(stage, step.on).send(step.bytes);
    return [];
  },
  monitor: async (step, stage) => {
    stage.links.set(step.as, await stage.daemon.connect(step.path));
    return [];
  },
  'hang up': (step, stage) => {
    link(stage, step.on).close();
    stage.links.delete(step.on);
    return [];
  },
  event: (step, stage) => {
    const isIt = (text: string): boolean =>
      text.includes(`"event": "${step.name}"`) && text.includes(step.containing ?? '');
    const refused = stage.answers.at(-1)?.startsWith('{"error"') ?? false;
    if (step.unlessOver === true && (refused || stage.answers.some(isIt))) return [];
    return link(stage, step.on).until(isIt);
  },
  exit: async (_, stage) => {
    const { code, signal } = await stage.daemon.exited;
    return [signal === null ? `<exit ${code}>` : `<${signal}>`];
  },
  signal: (step, stage) => {
    stage.daemon.child.kill(step.signal);
    return [];
  },
  listen: (step, stage) => link(stage, step.on).listen(step.hears, stage.patienceMs),
  nbd: async (step, stage) => {
    const made = await NbdPeer.connect(located(stage, step.path));
    stage.peers.set(step.as, made);
    return [await made.greet(step.flags)];
  },
  option: (step, stage) => {
    peer(stage, step.on).sendOption(step.option, step.payload, step.magic, step.claims);
    return peer(stage, step.on).optionReplies();
  },
  'export name': async (step, stage) => {
    peer(stage, step.on).sendOption(1, Buffer.from(step.name));
    return [await peer(stage, step.on).exportNameReply(step.zeroes)];
  },
  tls: async (step, stage) => [await peer(stage, step.on).startTls(tlsOptions(step))],
  requests: (step, stage) => peer(stage, step.on).requests(step.requests),
  bytes: (step, stage) => {
    peer(stage, step.on).send(step.bytes);
    return peer(stage, step.on).listen(step.hears, stage.patienceMs);
  },
  all: async (step, stage) => {
    const lines: string[] = [];
    for (const part of step.steps) lines.push(...(await perform(part, stage)));
    return lines;
  },
  drop: (step, stage) => {
    peer(stage, step.on).close();
    stage.peers.delete(step.on);
    return [];
  },
  inspect: (step, stage) => [inspect(stage.daemon.path(step.file))],
  'file calls': (step, stage) => callsOn(stage.daemon.path(step.file), step.calls),
  stat: (step, stage) => {
    const found = statSync(stage.daemon.path(step.file), { throwIfNoEntry: false });
    return [found === undefined ? 'no such file' : `mode 0${found.mode.toString(8)}`];
  },
  'write file': (step, stage) => {
    writeFileSync(stage.daemon.path(step.file), step.text, { flag: 'a' });
    return [];
  },
  'remove file': (step, stage) => {
    unlinkSync(stage.daemon.path(step.file));
    return [];
  },
  'read file': (step, stage) => [
    JSON.stringify(readFileSync(stage.daemon.path(step.file), 'latin1')),
  ],
} satisfies { [Kind in Step['do']]: Performer<Kind> };

export async function perform(step: Step, stage: Stage): Promise<readonly string[]> {
  const performer = performers[step.do] as Performer<Step['do']>;
  return performer(step, stage);
}

function tlsOptions({
  certificate,
  psk,
  version,
}: Extract<Step, { do: 'tls' }>): ConnectionOptions {
  return {
    ca: fixture('ca-cert.pem'),
    checkServerIdentity: () => undefined,
    ...(certificate === undefined
      ? {}
      : { cert: fixture(`${certificate}-cert.pem`), key: fixture('client-key.pem') }),
    ...(psk === undefined
      ? {}
      : {
          ciphers: 'PSK:TLS_AES_128_GCM_SHA256',
          pskCallback: () => ({ identity: psk.user, psk: Buffer.from(psk.key, 'hex') }),
        }),
    ...(version === undefined ? {} : { minVersion: version, maxVersion: version }),
  };
}

function located(stage: Stage, text: string): string {
  return text.replaceAll('@DIR@', stage.daemon.directory);
}

function link(stage: Stage, name: string): QmpLink {
  const found = stage.links.get(name);
  if (found === undefined) throw new Error(`no monitor ${name}`);
  return found;
}

function peer(stage: Stage, name: string): NbdPeer {
  const found = stage.peers.get(name);
  if (found === undefined) throw new Error(`no NBD connection ${name}`);
  return found;
}

/** Length, digest and data extents of a file. */
function inspect(path: string): string {
  const bytes = readFileSync(path);
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  return `length ${bytes.length} sha256 ${digest} data ${dataExtents(path)}`;
}

const extentProgram = `
import os, sys, errno
f = os.open(sys.argv[1], os.O_RDONLY); at = 0; out = []
while True:
    try: start = os.lseek(f, at, os.SEEK_DATA)
    except OSError as e:
        if e.errno != errno.ENXIO: raise
        break
    at = os.lseek(f, start, os.SEEK_HOLE); out.append(f"{start}+{at - start}")
print(" ".join(out))
`;

/** `offset+length` of each data extent as SEEK_DATA and SEEK_HOLE tell them. */
export function dataExtents(path: string): string {
  return execFileSync('python3', ['-c', extentProgram, path], { encoding: 'utf8' }).trim();
}
