// How the interface differs from the reference's on purpose. The test in introspection.test.ts fails when there is a difference
// that is not listed here, and when one is listed that is not there.

export interface DifferenceRow {
  /** The way from a command or event to the type, as compare-introspection.ts writes it. */
  readonly at: string;
  readonly what: 'member' | 'value' | 'branch';
  readonly names: readonly string[];
}

/** Added by QEMU versions after the one that is mirrored. */
export const laterQemu: readonly DifferenceRow[] = [
  { at: 'nbd-server-start', what: 'member', names: ['handshake-max-seconds'] },
  { at: 'blockdev-add', what: 'member', names: ['active'] },
  { at: 'query-block()[].inserted', what: 'member', names: ['active'] },
  { at: 'block-export-add', what: 'member', names: ['allow-inactive'] },
];

/** Commands and events that QEMU versions after the one that is mirrored added. */
export const laterQemuEntries: readonly string[] = ['blockdev-set-active'];

/** Ours: what the reference's schema has nothing for. */
export const additions: readonly DifferenceRow[] = [
  // The reference's schema says authz-listfile, a name that it knows no type for.
  { at: 'object-add.qom-type', what: 'value', names: ['authz-list-file'] },
  { at: 'object-add', what: 'branch', names: ['authz-list-file'] },
  { at: 'object-add.tls-creds-x509', what: 'member', names: ['x-watch'] },
];

/** Ours: commands and events of which the reference has nothing. */
export const ownEntries: readonly string[] = [
  'x-query-nbd-clients',
  'x-nbd-client-disconnect',
  'x-nbd-client-events',
  'X_NBD_CLIENT_CONNECTED',
  'X_NBD_CLIENT_DISCONNECTED',
  'x-block-export-del',
  'x-tls-creds-reload',
];

/**
 * Left out for good. In the reference a parallel port drops what is written and gives nothing, and a monitor on `udp` never
 * greets and dies of what it is sent; the other kinds are refused there as well, by a storage daemon.
 */
export const leftOut: readonly DifferenceRow[] = [
  {
    at: 'chardev-add.backend.type',
    what: 'value',
    names: [
      'parallel',
      'udp',
      'msmouse',
      'wctablet',
      'braille',
      'testdev',
      'console',
      'spicevmc',
      'spiceport',
      'qemu-vdagent',
      'dbus',
      'vc',
    ],
  },
];

/** Not listed, because it does not work yet. */
export const notYet: readonly DifferenceRow[] = [
  {
    at: 'query-block()[].inserted.image.format-specific.type',
    what: 'value',
    names: ['vmdk', 'luks', 'rbd'],
  },
  {
    at: 'query-block()[].inserted.image.format-specific.qcow2.data',
    what: 'member',
    names: ['encrypt'],
  },
  {
    at: 'blockdev-add.qcow2',
    what: 'member',
    names: ['encrypt'],
  },
  { at: 'x-blockdev-amend.options.qcow2', what: 'member', names: ['encrypt'] },
  {
    at: 'blockdev-create.options.qcow2',
    what: 'member',
    names: ['encrypt'],
  },
  {
    at: 'query-blockstats()[].driver-specific.driver',
    what: 'value',
    names: [
      'blkreplay',
      'bochs',
      'cloop',
      'dmg',
      'ftp',
      'ftps',
      'gluster',
      'host_cdrom',
      'http',
      'https',
      'iscsi',
      'luks',
      'nfs',
      'nvme',
      'parallels',
      'qcow',
      'qed',
      'rbd',
      'replication',
      'ssh',
      'vdi',
      'vhdx',
      'vmdk',
      'vpc',
      'vvfat',
    ],
  },
  {
    at: 'blockdev-add.file',
    what: 'member',
    names: ['pr-manager', 'aio-max-batch', 'x-check-cache-dropped'],
  },
  {
    at: 'query-jobs()[].type',
    what: 'value',
    names: [
      'commit',
      'stream',
      'mirror',
      'backup',
      'snapshot-load',
      'snapshot-save',
      'snapshot-delete',
    ],
  },
  {
    at: 'transaction.actions[].type',
    what: 'value',
    names: ['blockdev-backup', 'drive-backup'],
  },
  { at: 'block-export-add', what: 'member', names: ['fixed-iothread', 'iothread'] },
  { at: 'block-export-add.type', what: 'value', names: ['vduse-blk'] },
  {
    at: 'object-add.qom-type',
    what: 'value',
    names: [
      'authz-listfile',
      'authz-pam',
      'can-bus',
      'can-host-socketcan',
      'colo-compare',
      'cryptodev-backend',
      'cryptodev-backend-builtin',
      'cryptodev-backend-lkcf',
      'cryptodev-vhost-user',
      'dbus-vmstate',
      'filter-buffer',
      'filter-dump',
      'filter-mirror',
      'filter-redirector',
      'filter-replay',
      'filter-rewriter',
      'input-barrier',
      'input-linux',
      'iothread',
      'main-loop',
      'memory-backend-epc',
      'memory-backend-file',
      'memory-backend-memfd',
      'memory-backend-ram',
      'pef-guest',
      'pr-manager-helper',
      'qtest',
      'rng-builtin',
      'rng-egd',
      'rng-random',
      'sev-guest',
      'thread-context',
      's390-pv-guest',
      'x-remote-object',
      'x-vfio-user-server',
    ],
  },
];
