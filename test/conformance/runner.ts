// Puts the cases of an area to one side and returns what it answered, masked: the same code for the reference and for ours.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { withSecondClients } from '../helpers/second-client.ts';
import type { Area, Case, CommandLineCase, Group } from './case.ts';
import {
  DaemonProcess,
  environment,
  makeDirectory,
  setUpFiles,
  waitUntil,
} from './daemon-process.ts';
import { generatedNames, mask } from './mask.ts';
import type { NbdPeer } from './nbd-peer.ts';
import type { QmpLink } from './qmp-link.ts';
import type { Side } from './side.ts';
import { perform, type Stage } from './steps.ts';

/** The lines a case was answered with, by the case's full id. */
export type Answers = ReadonlyMap<string, readonly string[]>;

const COMMAND_LINE_LIMIT_MS = 30_000;
const PATIENCE_MS = 30_000;

export function groupCaseId(group: Group, oneCase: { readonly id: string }): string {
  return `${group.name}: ${oneCase.id}`;
}

/** The group's own answer: what it wrote on stderr and how it ended. */
export function groupEndId(group: Group): string {
  return `${group.name}: stderr and end`;
}

export function commandLineId(oneCase: CommandLineCase): string {
  return `command line: ${oneCase.id}`;
}

export function caseIds(area: Area): string[] {
  const groups = area.groups ?? [];
  return [
    ...groups.flatMap((group) => [
      ...group.cases.map((oneCase) => groupCaseId(group, oneCase)),
      groupEndId(group),
    ]),
    ...(area.commandLines ?? []).map(commandLineId),
  ];
}

/** Runs a whole area, several daemons at a time. */
export async function runArea(area: Area, side: Side, parallel = 3): Promise<Answers> {
  const answers = new Map<string, readonly string[]>();
  const work: (() => Promise<void>)[] = [];
  for (const group of area.groups ?? []) {
    work.push(async () => {
      for (const [id, lines] of await runGroup(group, side)) answers.set(id, lines);
    });
  }
  for (const oneCase of area.commandLines ?? []) {
    work.push(async () => {
      answers.set(commandLineId(oneCase), await runCommandLine(oneCase, side));
    });
  }
  const worker = async (): Promise<void> => {
    for (let job = work.shift(); job !== undefined; job = work.shift()) await job();
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  return answers;
}

export async function runGroup(group: Group, side: Side): Promise<Answers> {
  const answers = new Map<string, readonly string[]>();
  const peer = group.peer === undefined ? undefined : await startPeer(side, group);
  const daemon = new DaemonProcess(side, {
    files: peer === undefined ? (group.files ?? []) : [],
    arguments: group.arguments ?? [],
    monitor: group.monitor ?? 'stdio',
    ...(peer === undefined ? {} : { directory: peer.directory }),
  });
  const names = generatedNames();
  const masked = (lines: readonly string[]): string[] =>
    folded(lines.map((line) => shortened(names(mask(withoutLineEnd(line), daemon.directory)))));
  const links = new Map<string, QmpLink>();
  // Only the reference is known to hang; ours has all the time that a busy machine may need.
  const hangs = side.name === 'reference' ? group.patienceMs : undefined;
  const patienceMs = hangs ?? PATIENCE_MS;
  if (daemon.stdio !== undefined) {
    links.set('main', daemon.stdio);
    if (group.negotiated !== false) await daemon.stdio.negotiate();
  }
  for (const oneCase of group.cases) {
    if (group.monitor === 'socket') {
      try {
        const link = await daemon.connect();
        links.set('main', link);
        if (group.negotiated !== false) await negotiated(link, daemon, side);
      } catch (error) {
        answers.set(groupCaseId(group, oneCase), [`<${String(error)}>`]);
        continue;
      }
    }
    const lines = await runCase(oneCase, { daemon, links, patienceMs });
    answers.set(groupCaseId(group, oneCase), masked(lines));
    if (group.monitor === 'socket') links.get('main')?.close();
  }
  for (const link of links.values()) if (link !== daemon.stdio) link.close();
  const end = await daemon.stop('SIGTERM', patienceMs);
  await peer?.stop();
  const errors = daemon.stderr.split('\n').filter((line) => line !== '');
  const kept = group.stderr === false ? [] : masked(errors).sort();
  answers.set(groupEndId(group), [...kept, end]);
  return answers;
}

/** Greeted, and ready for commands. */
async function negotiated(link: QmpLink, daemon: DaemonProcess, side: Side): Promise<void> {
  const greeting = link.negotiate();
  await (side.name === 'reference'
    ? withSecondClients(daemon.path('qmp.sock'), greeting)
    : greeting);
}

async function startPeer(side: Side, group: Group): Promise<DaemonProcess> {
  const peer = new DaemonProcess(side, {
    files: group.files ?? [],
    arguments: [...(group.peer ?? []), '--pidfile', '@DIR@/peer.pid'],
    monitor: 'none',
  });
  await waitUntil(() => existsSync(peer.path('peer.pid')) || peer.child.exitCode !== null, 30_000);
  return peer;
}

async function runCase(oneCase: Case, group: Omit<Stage, 'peers' | 'answers'>): Promise<string[]> {
  const { links } = group;
  const lines: string[] = [];
  const peers = new Map<string, NbdPeer>();
  for (const step of oneCase.steps) {
    try {
      lines.push(...(await perform(step, { ...group, peers, answers: lines })));
    } catch (error) {
      lines.push(`<${error instanceof Error ? error.message : String(error)}>`);
    }
  }
  for (const peer of peers.values()) peer.close();
  const main = links.get('main');
  // Events that follow the last answer belong to this case.
  if (main !== undefined && oneCase.steps.some((step) => step.do === 'command')) {
    lines.push(...(main.closed || lines.includes('<no answer>') ? [] : await main.sync()));
  }
  return lines;
}

async function runCommandLine(oneCase: CommandLineCase, side: Side): Promise<readonly string[]> {
  const directory = makeDirectory();
  try {
    setUpFiles(directory, oneCase.files ?? []);
    const [program, ...before] = side.command;
    const args = oneCase.arguments.map((argument) => argument.replaceAll('@DIR@', directory));
    const child = spawn(program, [...before, ...args], { cwd: directory, env: environment() });
    let out = '';
    let err = '';
    child.stdout.setEncoding('latin1').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('latin1').on('data', (text: string) => (err += text));
    child.stdin.on('error', () => {});
    child.stdin.write((oneCase.stdin ?? '').replaceAll('@DIR@', directory));
    const timer = setTimeout(() => child.kill('SIGTERM'), COMMAND_LINE_LIMIT_MS);
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    clearTimeout(timer);
    const names = generatedNames();
    const lines = (text: string, prefix: string): string[] =>
      names(mask(text, directory))
        .split('\n')
        .filter((line, at, all) => line !== '' || at < all.length - 1)
        .map((line) => `${prefix} ${line.replace(/\r$/, '')}`);
    const kept = lines(out, 'out:').filter((line) => oneCase.keep?.test(line) ?? true);
    return [
      ...kept,
      ...lines(err, 'err:'),
      signal === null ? `exit ${code}` : `killed by ${signal}`,
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The line end is part of the answer: said only where it is not the usual one. */
function withoutLineEnd(text: string): string {
  if (text.endsWith('\r\n')) return text.slice(0, -2);
  return text.endsWith('\n') ? `${text.slice(0, -1)}<line end without CR>` : text;
}

const MAXIMUM_LINE = 4000;

/** A very long line is kept as its beginning and a digest. */
function shortened(line: string): string {
  if (line.length <= MAXIMUM_LINE) return line;
  const digest = createHash('sha256').update(line).digest('hex');
  return `${line.slice(0, 200)}… ${line.length} characters, sha256 ${digest}`;
}

/** The same line many times over is told once, with its number. */
function folded(lines: readonly string[]): string[] {
  const out: string[] = [];
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] ?? '';
    let end = at + 1;
    while (lines[end] === line) end++;
    if (end - at > 3) out.push(`${line} ×${end - at}`);
    else out.push(...lines.slice(at, end));
    at = end;
  }
  return out;
}

/** For cases of one area: `path` of an area's recording. */
export function recordingPath(area: Area): string {
  return join(import.meta.dirname, 'recorded', `${area.name}.json`);
}
