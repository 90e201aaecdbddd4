"""A program that uses CUDA: holds as much memory as it is told, says so, and goes on until its stdin ends."""

import ctypes
import json
import os
import sys

from driver import call

size, free, total = int(sys.argv[1]), ctypes.c_size_t(), ctypes.c_size_t()
pointer = ctypes.c_uint64()
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
name, uuid = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
call("cuDeviceGetName", name, 256, 0)
call("cuDeviceGetUuid_v2", uuid, 0)
text = uuid.raw.hex()
uuid = "-".join(text[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
said = {"pid": os.getpid(), "free": free.value, "total": total.value, "name": name.value.decode(), "uuid": f"GPU-{uuid}"}
print(json.dumps(said), flush=True)
sys.stdin.read()
