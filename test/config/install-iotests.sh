#!/bin/sh
# Unpacks QEMU's own tests of images (tests/qemu-iotests of its source package) where the other things are that tests need. Needs
# no root. Never fails: what runs them is left out then.
target=${XDG_CACHE_HOME:-$HOME/.cache}/qmp-storage-daemon/iotests
[ ! -e "$target/complete" ] || exit 0
without="QEMU's own tests are"
. "$(dirname "$0")/private-apt.sh"
command -v xz >/dev/null 2>&1 || leave 'No xz'
echo 'Unpacking the tests of QEMU 7.2' >&2
begin_apt deb-src bookworm
cd "$target/apt" || leave 'No directory'
apt source --download-only --tar-only qemu || leave 'No source package'
tar -xf qemu_7.2*.orig.tar.xz -C "$target" --strip-components=1 --wildcards \
  'qemu-7.2*/tests/qemu-iotests' 'qemu-7.2*/python/qemu' || leave 'Unpacking failed'
rm -rf "$target/apt"
iotests="$target/tests/qemu-iotests"
: >"$iotests/common.env"
# They give a server half a second or one to be ready. Ours, and theirs on a busy machine, may take as long as it takes. And a
# pidfile is read when it is there, be it empty still.
sed -i \
  -e 's@sleep 1 # FIXME: qemu-nbd needs.*@until [ -S "$SOCK_DIR/nbd" ] || ! kill -0 $!; do sleep 0.05; done@' \
  -e 's@^        FUSE_PIDS+=@        until grep -q " $export_mp " /proc/mounts; do kill -0 "$pid" || return 1; sleep 0.05; done\n&@' \
  -e 's@while \[ ! -f "$pidfile" \]@while [ ! -s "$pidfile" ]@' \
  -e 's@timeout=10 # \*0.5 s@timeout=60@' \
  "$iotests/common.rc" || leave 'The tests cannot be prepared'
grep -q 'until grep -q " $export_mp "' "$iotests/common.rc" && grep -q 'until \[ -S' "$iotests/common.rc" &&
  grep -q 'while \[ ! -s "$pidfile"' "$iotests/common.rc" ||
  leave 'The tests are not those that are known'
: >"$target/complete"
exit 0
