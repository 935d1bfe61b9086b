// An export over FUSE: a node that appears as a regular file, in the place of one that exists.

import { errno } from '../../base/errno.ts';
import { PERM_RESIZE } from '../../block/block-driver.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { XBlockExportRemoveMode } from '../../qapi/generated/types.ts';
import type { BlockExport } from '../block-export.ts';
import type { ExportContext, ExportDriver, RunningExport } from '../export-driver.ts';
import { fuseDevice } from './device.ts';
import { FuseFile } from './fuse-file.ts';
import { type FuseMount, MountError, mountFuse, unmountFuse } from './mount.ts';
import { FuseSession } from './session.ts';

interface FuseExportParts {
  readonly common: BlockExport;
  readonly file: FuseFile;
  readonly mount: FuseMount;
  readonly context: ExportContext;
}

class FuseExport implements RunningExport {
  readonly #common: BlockExport;
  readonly #mount: FuseMount;
  readonly #context: ExportContext;
  readonly #session: FuseSession;
  /** Once it has begun. */
  #unmounting: Promise<void> | undefined;
  /** Unmounted, but not for those who have the file open: they count as a client. */
  #lingers = false;
  /** Nobody has it open, or ever will again. */
  #isGone = false;

  constructor({ common, file, mount, context }: FuseExportParts) {
    this.#common = common;
    this.#mount = mount;
    this.#context = context;
    this.#session = new FuseSession({
      ...context,
      device: fuseDevice(mount.fd),
      id: common.id,
      file,
      buffers: context.fuse.buffers,
      onGone: () => {
        this.#isGone = true;
        this.#endLingering();
      },
    });
    common.backend.onDrain = (drained) => this.#session.setDrained(drained);
  }

  async retire(mode: XBlockExportRemoveMode): Promise<void> {
    if (mode === 'soft') this.#session.refuse(errno.ESHUTDOWN);
    if (this.#unmounting !== undefined || this.#isGone) return;
    this.#lingers = true;
    this.#common.ref();
    await this.#unmount();
  }

  requestShutdown(): void {
    this.#endLingering();
  }

  async delete(): Promise<void> {
    // Still serving: what is dirty in the kernel's cache is written when the last user goes.
    await this.#unmount();
    await this.#session.stop();
    this.#common.backend.onDrain = () => {};
  }

  /** Resolves when it is not mounted any more, whoever asked for that first. */
  #unmount(): Promise<void> {
    this.#unmounting ??= unmountFuse(this.#mount).then(() => {
      this.#context.fuse.mountpoints.give(this.#mount.target);
    });
    return this.#unmounting;
  }

  #endLingering(): void {
    if (!this.#lingers) return;
    this.#lingers = false;
    this.#common.unref();
  }
}

export const fuse: ExportDriver<'fuse'> = {
  async create(common, options, context) {
    const { backend, writable } = common;
    const growable = options.growable ?? false;
    if (growable || writable) {
      backend.setPermissions(backend.perm | PERM_RESIZE, backend.sharedPerm);
    }
    const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    const file = new FuseFile({ backend, writable, growable, uid, gid });
    const { mountpoints } = context.fuse;
    const target = await mountpoints.take(options.mountpoint);
    const mountAs = async (allowOther: boolean): Promise<FuseMount> => {
      const mounted = await mountFuse(target, { allowOther, uid, gid });
      file.allowOther = allowOther;
      return mounted;
    };
    try {
      const allowOther = options['allow-other'] ?? 'auto';
      const mount =
        allowOther === 'auto'
          ? await mountAs(true).catch(() => mountAs(false))
          : await mountAs(allowOther === 'on');
      return new FuseExport({ common, file, mount, context });
    } catch (error) {
      mountpoints.give(target);
      if (!(error instanceof MountError)) throw error;
      context.log.error(`FUSE export '${common.id}': ${error.message}`);
      throw new QmpError('Failed to mount FUSE session to export', { cause: error });
    }
  },
};
