// Repairing an image whose refcounts may be wrong: they are counted anew from all other tables. The image says that it is dirty
// until all is done, so whatever ends the process in between, it is repaired again.

import { errno } from '../../../base/errno.ts';
import { IoError } from '../../../base/errors.ts';
import { repairCopied } from './copied-flags.ts';
import { writeFeatures } from './corruption.ts';
import { INCOMPAT_CORRUPT, INCOMPAT_DIRTY } from './features.ts';
import { Findings } from './findings.ts';
import type { Qcow2Image } from './image.ts';
import { getRefcount, loadBlock, setRefcount } from './refcount-block.ts';
import { Room, rebuildRefcounts } from './refcount-rebuild.ts';
import { blockPlace, References, TURN, type Window } from './references.ts';
import { Turns } from './turns.ts';

/** A longer file would keep us busy for minutes. */
const MOST_CLUSTERS = 2 ** 31 - 1;

/** The lock is held, nothing is cached that is not on disk. Throws IoError. */
export async function repairImage(image: Qcow2Image): Promise<void> {
  const references = new References(image);
  if (references.length > MOST_CLUSTERS) throw new IoError(errno.EFBIG, { syscall: 'repair' });
  const findings = new Findings(image.log);
  const room = new Room(image, references.length);
  const mustRebuild = await compareAll(image, references, { findings, room, fixes: false });
  if (mustRebuild) {
    findings.say('Rebuilding refcount structure');
    await rebuildRefcounts(image, references, room);
  } else if (findings.wrongRefcounts > 0) {
    await compareAll(image, references, { findings, fixes: true });
  }
  await repairCopied(image, findings);
  await image.refcountCache.flush();
  await image.file.flush();
  if (findings.corruptions > 0) return;
  image.incompatible &= ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
  await writeFeatures(image);
}

interface Comparison {
  readonly findings: Findings;
  /** Notes what is free. */
  readonly room?: Room;
  /** What is wrong is put right; otherwise it is only said. */
  readonly fixes: boolean;
}

/** Compares the refcounts on disk with what they should be. Answers whether they cannot be put right one by one. */
async function compareAll(
  image: Qcow2Image,
  references: References,
  comparison: Comparison,
): Promise<boolean> {
  const { findings, room, fixes } = comparison;
  let mustRebuild = false;
  for (let first = 0; first < references.length; first += references.windowLength) {
    const window = await references.count(first, {
      refcounts: true,
      // The same would be found for every window.
      ...(first === 0 && !fixes ? { findings } : {}),
    });
    room?.add(window);
    if (first === 0 && !fixes && checkBlocks(image, window, findings)) mustRebuild = true;
    if (await compareWindow(image, window, comparison)) mustRebuild = true;
  }
  return mustRebuild;
}

/** Answers whether refcount blocks are where they cannot be. Blocks beyond the first window are taken for good. */
function checkBlocks(image: Qcow2Image, window: Window, findings: Findings): boolean {
  let broken = false;
  const tell = (line: string): void => {
    findings.wrongRefcount(line);
    broken = true;
  };
  for (let index = 0; index < image.refcountTableEntries; index++) {
    const place = blockPlace(image, index);
    if (place === 'reserved') {
      tell(`ERROR refcount table entry ${index} has reserved bits set`);
    } else if (place === 'unaligned') {
      tell(`ERROR refcount block ${index} is not cluster aligned; refcount table entry corrupted`);
    } else if (place === 'outside') {
      tell(`ERROR refcount block ${index} is outside image`);
    } else if (place !== 0) {
      const uses = window.counts[place / image.geometry.clusterSize];
      if (uses !== undefined && uses !== 1) tell(`ERROR refcount block ${index} refcount=${uses}`);
    }
  }
  return broken;
}

/** Answers whether a cluster is in use that is not counted at all: more may be missing, and nothing may be taken. */
async function compareWindow(
  image: Qcow2Image,
  { first, counts }: Window,
  { findings, fixes }: Comparison,
): Promise<boolean> {
  const { refcountsPerBlock, refcountOrder, refcountBits, clusterSize } = image.geometry;
  const most = 2 ** refcountBits - 1;
  const turns = new Turns(TURN);
  let uncounted = false;
  for (let start = 0; start < counts.length; start += refcountsPerBlock) {
    const index = Math.floor((first + start) / refcountsPerBlock);
    const place = index < image.refcountTableEntries ? blockPlace(image, index) : 0;
    const exists = typeof place === 'number' && place !== 0;
    const block = exists ? await loadBlock(image, place) : undefined;
    const end = Math.min(counts.length, start + refcountsPerBlock);
    let changed = false;
    for (let at = start; at < end; at++) {
      const uses = counts[at] ?? 0;
      if (block === undefined && uses === 0) continue;
      const refcount = block === undefined ? 0 : getRefcount(block.view, at - start, refcountOrder);
      if (refcount === uses) continue;
      const cluster = first + at;
      const difference = `cluster ${cluster} refcount=${refcount} reference=${uses}`;
      if (uses > most) {
        if (fixes) continue;
        const offset = (cluster * image.geometry.clusterSize).toString(16);
        findings.corruption(`ERROR: overflow cluster offset=0x${offset}`);
      } else if (!fixes) {
        findings.wrongRefcount(`${refcount < uses ? 'ERROR' : 'Leaked'} ${difference}`);
        if (refcount === 0) uncounted = true;
      } else if (block !== undefined) {
        findings.say(`Repairing ${difference}`);
        setRefcount(block.view, at - start, refcountOrder, uses);
        changed = true;
      }
    }
    if (changed && block !== undefined) image.refcountCache.markDirty(block);
    await turns.after(clusterSize);
  }
  return uncounted;
}
