# Runs a program that the kernel refuses io_uring_setup(2), as in many containers: without-rings.py ERRNO PROGRAM [ARGS...].

import ctypes
import os
import struct
import sys

IO_URING_SETUP = 425
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
LOAD_NUMBER = 0x20
JUMP_IF_EQUAL = 0x15
RETURN = 0x06
ANSWER_ERRNO = 0x0005_0000
ALLOW = 0x7FFF_0000


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


instructions = ctypes.create_string_buffer(
    struct.pack("HBBI", LOAD_NUMBER, 0, 0, 0)
    + struct.pack("HBBI", JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP)
    + struct.pack("HBBI", RETURN, 0, 0, ANSWER_ERRNO | int(sys.argv[1]))
    + struct.pack("HBBI", RETURN, 0, 0, ALLOW)
)
program = Program(4, ctypes.addressof(instructions))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
    sys.exit("no_new_privs cannot be set")
if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
