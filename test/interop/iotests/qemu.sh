#!/bin/bash
# The command line of a virtual machine as QEMU's own tests use it, served by the storage daemon that DAEMON names: its block nodes,
# objects, character devices and QMP monitors, in the order in which QEMU makes them. There is no guest, thus no devices.
objects=() chardevs=() nodes=() monitors=()
export DRIVES= DEVICES=

formats() {
  echo 'Supported formats: blkdebug blklogwrites blkverify compress copy-before-write copy-on-read file host_device nbd' \
    'null-aio null-co preallocate qcow2 quorum raw snapshot-access throttle'
  echo 'Supported formats (read-only):'
}

# drive OPTIONS: -drive as a node. What it leaves to be guessed are files.
drive() {
  local format=raw id node='' file='' options='' option prefix
  id="virtio$(wc -w <<<"$DRIVES")"
  while IFS= read -r option; do
    option=${option//$'\001'/,,}
    case $option in
      if=* | werror=* | rerror=* | media=* | serial=* | index=* | bus=* | unit=* | aio=threads) ;;
      id=*) id=${option#*=} ;;
      node-name=*) node=${option#*=} ;;
      format=* | driver=*) format=${option#*=} ;;
      file=*) file=${option#*=} ;;
      aio=*) options+=",file.$option" ;;
      cache=none | cache=directsync) options+=',cache.direct=on,file.cache.direct=on' ;;
      cache=unsafe) options+=',cache.no-flush=on,file.cache.no-flush=on' ;;
      cache=*) ;;
      readonly*) options+=',read-only=on' ;;
      *) options+=",$option" ;;
    esac
  done < <(sed 's/,,/\x01/g; s/,/\n/g' <<<"$1")
  prefix=file
  [[ $options != *,file.driver=@(qcow2|raw)* ]] || prefix=file.file
  [ -z "$file" ] || options+=",$prefix.filename=$file"
  for prefix in $(grep -oP ',\K[^,=]+(?=\.filename=)' <<<"$options"); do
    [[ $options == *",$prefix.driver="* ]] || options+=",$prefix.driver=file"
  done
  nodes+=(--blockdev "$format,node-name=${node:-$id}$options")
  DRIVES+=" $id=${node:-$id}"
}

while [ $# -gt 0 ]; do
  option=$1
  [[ $option != --* ]] || option=${option#-}
  case $option in
    -nodefaults | -nographic | -S | -no-shutdown) shift && continue ;;
    -machine | -M) [ "$2" != help ] || { echo 'none (default)' && exit 0; } ;;
    -device)
      [ "$2" != help ] || { printf 'name "%s"\n' virtio-blk virtio-scsi virtio-scsi-pci && exit 0; }
      [[ ! $2 =~ ,id=([^,]*).*,drive=([^,]*) ]] || DEVICES+=" ${BASH_REMATCH[1]}=${BASH_REMATCH[2]}"
      ;;
    -drive) [ "$2" != format=help ] || { formats && exit 0; } && drive "$2" ;;
    -accel | -display | -vga | -serial) ;;
    -monitor) [ "$2" = none ] || { echo "$0: there is no human monitor" >&2 && exit 1; } ;;
    -object) [[ $2 == iothread,* ]] || objects+=(--object "$2") ;;
    -blockdev) nodes+=(--blockdev "$2") ;;
    -chardev) chardevs+=(--chardev "$2") ;;
    -qtest) chardevs+=(--chardev "socket,id=qtest,${2#unix:}") ;;
    -mon) monitors+=(--monitor "${2/,mode=control/}") ;;
    -qmp) chardevs+=(--chardev "$2,id=qmp") monitors+=(--monitor qmp) ;;
    -qmp-pretty) chardevs+=(--chardev "$2,id=qmp") monitors+=(--monitor qmp,pretty=on) ;;
    *) echo "$0: $1: not an option of a storage daemon" >&2 && exit 1 ;;
  esac
  shift 2
done

# The test's monitor goes by way of monitor.py, of which the daemon gets the far side.
for index in "${!chardevs[@]}"; do
  case ${chardevs[index]} in
    stdio,id=qmp) id=qmp socket=() ;;
    socket,id=mon,path=*) id=mon socket=("${chardevs[index]##*path=}") ;;
    *) continue ;;
  esac
  directory=$(mktemp -d)
  chardevs[index]="socket,id=$id,path=$directory/monitor"
  python3 "$(dirname "$(readlink -f "$0")")/monitor.py" "$directory" "${socket[@]}" <&0 &
  until [ -e "$directory/ready" ] || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
  chardevs+=(--chardev "socket,id=control,path=$directory/control") monitors+=(--monitor control)
done
# shellcheck disable=SC2086 # a program and its arguments
setpriv --pdeathsig KILL $DAEMON "${objects[@]}" "${chardevs[@]}" "${nodes[@]}" "${monitors[@]}" </dev/null
status=$?
# The monitor may have something to tell still.
wait
exit $status
