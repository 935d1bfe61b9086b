// Constants of the virtio block device (Virtual I/O Device, section 5.2), spelled as there. Nothing executable.

/** Bytes of the unit in which offsets and the capacity are told, whatever the block size. */
export const SECTOR = 512;

// Request types
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;
/** A legacy flag in the type, without effect. */
export const VIRTIO_BLK_T_BARRIER = 0x8000_0000;

// Status byte
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;
export type VirtioBlkStatus =
  | typeof VIRTIO_BLK_S_OK
  | typeof VIRTIO_BLK_S_IOERR
  | typeof VIRTIO_BLK_S_UNSUPP;

/** Flag of a write zeroes segment. */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

/** Bytes in front of every request. */
export const HEADER_SIZE = 16;
/** Bytes of a discard or write zeroes segment. */
export const SEGMENT_SIZE = 16;
/** Most bytes of the answer to VIRTIO_BLK_T_GET_ID. */
export const VIRTIO_BLK_ID_BYTES = 20;

// Feature bits
export const VIRTIO_BLK_F_SIZE_MAX = 1;
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

/** Sectors that one discard may cover, and one write of zeroes: 16 MiB, as the reference tells its guests. */
export const MAX_DISCARD_SECTORS = 32768;
export const MAX_WRITE_ZEROES_SECTORS = 32768;
/** Buffers of a request beside its header and status, as the reference tells its guests. */
export const SEGMENTS_MAX = 126;
