// The text of --help: the forms that the options take, for people and for test suites that look for capabilities in it.

/** `program` is the name to print in the usage line. */
export function helpText(program: string): string {
  return `Usage: ${program} [options]
Storage daemon driven by QMP; options take effect from left to right

  -h, --help             print this text and exit
  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]
                         switch trace points on (-T help lists them)
  -V, --version          print the version and exit

  --blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]
             [,cache.direct=on|off][,cache.no-flush=on|off]
             [,read-only=on|off][,auto-read-only=on|off]
             [,force-share=on|off][,detect-zeroes=on|off|unmap]
             [,driver specific parameters...]
                         add a block node, as blockdev-add does

  --chardev <options>    add a character device, for a monitor to use
                         (--chardev help lists the kinds)

  --daemonize            go to the background; the command that started the
                         daemon returns when it is ready

  --export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]
           [,writable=on|off][,description=<text>]
                         export a block node over NBD
                         (needs an --nbd-server before it)
  --export [type=]vhost-user-blk,id=<id>,node-name=<node-name>,
           addr.type=unix,addr.path=<socket-path>[,writable=on|off]
           [,logical-block-size=<block-size>][,num-queues=<num-queues>]
                         export a block node to a virtual machine, as a disk
                         (addr.type=fd,addr.str=<fd> for a socket that
                         listens already)

  --export [type=]fuse,id=<id>,node-name=<node-name>,mountpoint=<file>
           [,growable=on|off][,writable=on|off][,allow-other=on|off|auto]
                         show a block node as a file, in the place of one that
                         exists, by FUSE

  --monitor [chardev=]name[,mode=control][,pretty[=on|off]]
                         offer QMP on a character device

  --nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>
               [,tls-creds=<id>][,tls-authz=<id>][,max-connections=<n>]
  --nbd-server addr.type=unix,addr.path=<path>
               [,tls-creds=<id>][,tls-authz=<id>][,max-connections=<n>]
                         start the NBD server that exports are reached by

  --object help          list the types of objects
  --object <type>,help   list the properties of a type
  --object <type>[,<property>=<value>...]
                         make an object; 'id' is among its properties

  --pidfile <path>       write the process ID to a file when all is ready

The options --blockdev, --export, --monitor, --nbd-server and --object also
take JSON: --blockdev '{"driver": "file", "filename": "disk.raw"}'
`;
}
