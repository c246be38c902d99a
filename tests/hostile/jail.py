#!@PYTHON@
# SPDX-License-Identifier: GPL-3.0-or-later
"""A jail that a stranger's program has taken over: it answers as it likes (jail_memory.h)."""

import ctypes
import mmap
import os
import signal
import struct
import time

MISDEED, FROM = os.environ["OMP_MISDEED"].split(",")  # from which request on
REQUESTS, ANSWERS, STATUS, TEXT = 128, 192, 196, 200
DONE, FAILED = 1, 2
FUTEX, WAKE = 202, 1

memory = mmap.mmap(3, os.fstat(3).st_size)
answers = ctypes.c_uint32.from_buffer(memory, ANSWERS)
syscall = ctypes.CDLL(None).syscall
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no test leaves it behind


def wake():
    syscall(FUTEX, ctypes.byref(answers), WAKE, 1)


def answer(status=DONE, text=b"test\0", count=None):
    memory[TEXT : TEXT + len(text)] = text
    struct.pack_into("I", memory, STATUS, status)
    answers.value = number if count is None else count
    wake()


def misbehave():
    if MISDEED == "wake":
        while True:
            wake()
    elif MISDEED == "count":
        while True:
            answer(count=answers.value + 1 | 1 << 31)
    elif MISDEED == "ahead":
        answer(count=number + 1000)
    elif MISDEED == "status":
        answer(status=77)
    elif MISDEED == "silent":
        answer(FAILED, b"\0")
    elif MISDEED == "escapes":
        answer(FAILED, b"\x1b[2Jfirst\nsecond".ljust(1000, b"\x07"))
    elif MISDEED == "nan":
        memory[4096:] = b"\xff" * (len(memory) - 4096)
        answer()
    elif MISDEED == "parameters":
        memory[:72] = b"\xff" * 72
        answer()
    elif MISDEED == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif MISDEED == "exit":
        os._exit(0)


for number in range(1, 1 << 31):
    while struct.unpack_from("I", memory, REQUESTS)[0] < number:
        time.sleep(1e-4)
    if number > int(FROM):
        misbehave()
    else:
        answer()
