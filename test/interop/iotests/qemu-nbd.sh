#!/bin/sh
# The command line of qemu-nbd as QEMU's own tests use it, served by the daemon that DAEMON names.
path= format=raw name= limit=1 pidfile=
while [ $# -gt 0 ]; do
  case "$1" in
    -k) path=$2 && shift 2 ;;
    -f) format=$2 && shift 2 ;;
    -x) name=$2 && shift 2 ;;
    -e) limit=$2 && shift 2 ;;
    --pid-file=*) pidfile=${1#*=} && shift ;;
    -v | -t) shift ;;
    -*) echo "qemu-nbd.sh: $1 is not known here" >&2 && exit 1 ;;
    *) image=$1 && shift ;;
  esac
done
# shellcheck disable=SC2086 # a program and its arguments
exec $DAEMON \
  --blockdev "driver=$format,node-name=n,file.driver=file,file.filename=$image,discard=unmap" \
  --nbd-server "addr.type=unix,addr.path=$path,max-connections=$limit" \
  --export "type=nbd,id=e,node-name=n,name=$name,writable=on" \
  --pidfile "$pidfile"
