// The programs that make the load, and what they report.

import { execFile } from 'node:child_process';
import { environment } from '../conformance/daemon-process.ts';

export interface FioJob {
  readonly rw: 'randread' | 'randwrite' | 'read' | 'write';
  readonly bs: string;
  readonly depth: number;
}

export interface FioResult {
  readonly requests: number;
  readonly bytes: number;
  readonly seconds: number;
}

interface FioPlan {
  readonly seconds: number;
  readonly bytes: number;
}

/** Runs one job of fio's against an NBD server, for so many seconds, over the first `bytes` of the export. */
export function fio(uri: string, plan: FioPlan, job: FioJob): Promise<FioResult> {
  return fioWith(['--ioengine=nbd', `--uri=${uri}`], plan, job);
}

/** The same with a file, past the page cache. */
export function fioOnFile(file: string, plan: FioPlan, job: FioJob): Promise<FioResult> {
  return fioWith(['--ioengine=libaio', '--direct=1', `--filename=${file}`], plan, job);
}

async function fioWith(target: readonly string[], plan: FioPlan, job: FioJob): Promise<FioResult> {
  return fioResult(await output('fio', fioArguments(target, plan, job)), job);
}

/** What fio is started with for a job. */
export function fioArguments(
  target: readonly string[],
  plan: FioPlan,
  job: FioJob,
): readonly string[] {
  return [
    '--name=bench',
    ...target,
    `--rw=${job.rw}`,
    `--bs=${job.bs}`,
    `--iodepth=${job.depth}`,
    `--size=${plan.bytes}`,
    '--time_based=1',
    `--runtime=${plan.seconds}`,
    '--randrepeat=1',
    '--norandommap=1',
    '--output-format=json',
  ];
}

/** Of what fio has printed. Throws when the job has failed. */
export function fioResult(text: string, job: FioJob): FioResult {
  const start = text.indexOf('{');
  if (start < 0) throw new Error(`fio failed: ${text}`);
  const report = JSON.parse(text.slice(start)) as {
    jobs: { error: number; read: FioSide; write: FioSide }[];
  };
  const [result] = report.jobs;
  if (result === undefined || result.error !== 0) throw new Error(`fio failed: ${text}`);
  const side = job.rw.endsWith('read') ? result.read : result.write;
  return { requests: side.total_ios, bytes: side.io_bytes, seconds: side.runtime / 1000 };
}

interface FioSide {
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly runtime: number;
}

/** What a program prints. Rejects with its complaint when it fails. */
export async function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { env: environment(), maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program}: ${stderr || stdout || error.message}`));
    });
  });
}
