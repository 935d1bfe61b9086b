#!/bin/sh
# `make run`: the daemon on a small demo image in a directory of its own, until Ctrl-C. Removes what it made.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/qsd-demo.XXXXXX")
daemon=
stop() {
  trap '' INT TERM HUP EXIT
  if [ -n "$daemon" ]; then
    kill "$daemon" 2>/dev/null || :
    wait "$daemon" 2>/dev/null || :
  fi
  rm -rf "$dir"
}
trap 'stop; exit 0' INT TERM HUP
trap stop EXIT

truncate -s 64M "$dir/demo.img"
printf 'Hello from qmp-storage-daemon\n' | dd of="$dir/demo.img" conv=notrunc status=none

# Ctrl-C reaches the whole foreground group; the daemon takes it from stop() alone, so that the order is ours.
setsid "$root/dist/main.js" \
  --pidfile "$dir/daemon.pid" \
  --chardev "socket,id=qmp,path=$dir/qmp.sock,server=on,wait=off" --monitor chardev=qmp \
  --blockdev "driver=file,node-name=demo-file,filename=$dir/demo.img" \
  --blockdev driver=raw,node-name=demo,file=demo-file \
  --nbd-server "addr.type=unix,addr.path=$dir/nbd.sock" \
  --export type=nbd,id=demo,node-name=demo,name=demo,writable=on &
daemon=$!
# The pidfile is written last: when it is there, the daemon serves.
while [ ! -s "$dir/daemon.pid" ]; do
  kill -0 "$daemon" 2>/dev/null || { daemon=; echo 'The daemon did not start.' >&2; exit 1; }
  sleep 0.05
done

cat <<EOF

  disk        $dir/demo.img (64 MiB)
  NBD URI     nbd+unix:///demo?socket=$dir/nbd.sock
  QMP socket  $dir/qmp.sock

Type in another terminal, from this folder:

  # QMP, with nothing but Node
  node -e "require('./dist').QmpClient.connect('$dir/qmp.sock').then(async (qmp) => {
    console.log(await qmp.execute('query-block-exports')); qmp.close(); })"

  # NBD, with any client
  nbdinfo 'nbd+unix:///demo?socket=$dir/nbd.sock'
  qemu-io -f raw -c 'read -v 0 32' 'nbd+unix:///demo?socket=$dir/nbd.sock'

Ctrl-C stops the daemon and removes $dir
EOF
wait "$daemon" || :
daemon=
echo 'The daemon has ended.'
