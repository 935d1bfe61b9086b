// The FUSE protocol's constants, spelled as linux/fuse.h spells them. Nothing executable.

export const FUSE_KERNEL_VERSION = 7;
/** What is spoken here; a newer kernel keeps to it. */
export const FUSE_KERNEL_MINOR_VERSION = 31;
/** The first minor version with all that a file needs: FUSE_LSEEK. */
export const OLDEST_MINOR_VERSION = 24;

/** The node of the mount's root, which here is the file. */
export const FUSE_ROOT_ID = 1;

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_SETATTR = 4;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_INTERRUPT = 36;
export const FUSE_DESTROY = 38;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;
export const FUSE_LSEEK = 46;

// Flags of FUSE_INIT.
export const FUSE_ASYNC_READ = 1 << 0;
export const FUSE_ATOMIC_O_TRUNC = 1 << 3;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_AUTO_INVAL_DATA = 1 << 12;
export const FUSE_ASYNC_DIO = 1 << 15;
export const FUSE_MAX_PAGES = 1 << 22;

// What FUSE_SETATTR is to change.
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
/** Says which open file is meant, and changes nothing. */
export const FATTR_FH = 1 << 6;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
/** Says who holds locks, and changes nothing. */
export const FATTR_LOCKOWNER = 1 << 9;
export const FATTR_CTIME = 1 << 10;

/** Whence of FUSE_LSEEK. */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

// Sizes of structures, in bytes.
export const IN_HEADER_SIZE = 40;
export const OUT_HEADER_SIZE = 16;
export const WRITE_IN_SIZE = 40;
export const ATTR_OUT_SIZE = 104;
export const OPEN_OUT_SIZE = 16;
export const WRITE_OUT_SIZE = 8;
export const STATFS_OUT_SIZE = 80;
export const INIT_OUT_SIZE = 64;
export const LSEEK_OUT_SIZE = 8;

/** Pages of the largest request, and what the kernel takes at most unless it is told otherwise. */
export const MAX_PAGES = 256;
export const PAGE_SIZE = 4096;
/** Bytes of data in the largest request. */
export const MAX_TRANSFER = MAX_PAGES * PAGE_SIZE;
