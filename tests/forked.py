"""A Python that has imported the libraries already, for scripts that tests start as processes.

A new process takes two to five seconds to import torch and what else a script needs, and the shell
chains start some fifty. Here one process imports the libraries once and forks for each script. The
child imports the project's own modules anew and runs the script as `__main__`, with the arguments,
environment, folder, output and exit status of the command that asked for it. Where that command is
killed, so is the child; it is gone when the command's output has ended.

  python forked.py SOCKET serve              until its stdin ends
  python forked.py SOCKET FILE ARGS...       as python FILE ARGS...
  python forked.py SOCKET -m MODULE ARGS...  as python -m MODULE ARGS...
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

# torch._dynamo comes with the first optimizer, the others with a network, the digits or a figure.
LIBRARIES = ("torch._dynamo", "torchvision", "sklearn.linear_model", "sklearn.datasets")
LIBRARIES += ("scipy.stats", "matplotlib.pyplot", "torch.utils.flop_counter")


def serve(path: str) -> tuple[list, list[int]]:
    """Fork for one request after the other. Only a child returns: its request, stdout and stderr.

    A request is a line of JSON: arguments, folder, environment. The answer is the exit status.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # a child's collector need not look at, and so copy, what is here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                os._exit(0)
            caller, _ = listener.accept()
            with caller:
                line, outputs, *_ = socket.recv_fds(caller, 2**16, 2)
                while not line.endswith(b"\n"):
                    line += caller.recv(2**16)
                child = os.fork()
                if child == 0:
                    return json.loads(line), outputs
                for descriptor in outputs:
                    os.close(descriptor)
                answer(caller, child)


def answer(caller: socket.socket, child: int) -> None:
    """The child's exit status once it ends; its end if the caller hangs up before."""
    ended = status = 0
    while not ended:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and select.select([caller], [], [], 0.01)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
    caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: list, outputs: list[int]) -> NoReturn:
    """Do what `python ARGS` does, and leave as a forked process does.

    Python's own way out looks through all objects of the libraries, for 1 to 2 s.
    """
    status = 1
    try:
        run(request, outputs)
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def run(request: list, outputs: list[int]) -> None:
    """The script, with the caller's arguments, folder, environment and output."""
    args, folder, environment = request
    for descriptor, own in zip(outputs, (1, 2), strict=True):
        os.dup2(descriptor, own)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if args[0] == "-m":
        sys.path[0], sys.argv = folder, args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(args[0])), args
        runpy.run_path(args[0], run_name="__main__")


def ask(path: str, args: list[str]) -> int:
    """Have the server run it, with this process's output; its exit status, 1 if there is none."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        line = json.dumps([args, os.getcwd(), dict(os.environ)]) + "\n"
        sent = socket.send_fds(server, [line.encode()], [1, 2])
        server.sendall(line.encode()[sent:])
        return int(server.recv(16) or 1) % 256


if __name__ == "__main__":
    if sys.argv[2:] == ["serve"]:
        become(*serve(sys.argv[1]))
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
