"""A process that has imported diffgeo once and forks for every line it is asked to run, so that a
hundred lines cost a hundred runs and not a hundred start-ups. `forks.py` speaks with it.

    {"do": "start", "argv", "cwd", "env", "out", "err", "memory", "die_at"}  ->  {"pid"}
    {"do": "wait", "pid"}                     ->  {"status", "cpu_s", "resident"}
    {"do": "system", "argv"}                  ->  {"status", "text"}

One request a line on stdin, one answer a line on stdout, both JSON. A status below 0 is the number
of the signal that ended the process.
"""

import atexit
import gc
import json
import os
import resource
import signal
import subprocess
import sys

# calls between which a run changes what lies on the disk: each is a moment to die at
POINTS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")


def prepare() -> None:
    """Import what the commands import, so that a fork has it."""
    import matplotlib.figure  # noqa: F401
    import scipy.optimize  # noqa: F401
    import tqdm  # noqa: F401
    from hydra import compose, initialize_config_dir

    import diffgeo.cli  # noqa: F401
    from diffgeo.config.catalogue import commands
    from diffgeo.config.line import conf_dir

    for command in commands().values():
        command.module()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose("train", ["n=1", "data.radius=2", "data=circle"])  # Hydra's parser is slow at first
    gc.freeze()


def die_at(count: int) -> None:
    """Kill this process, as kill -9 does, right before the `count`-th call that changes the
    disk."""
    left = count

    def deadly(call):
        def at_last(*arguments, **options):
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return at_last

    for name in POINTS:
        setattr(os, name, deadly(getattr(os, name)))


def become(request: dict) -> None:
    """In the child: run the line and end with its status."""
    streams = {0: (os.devnull, os.O_RDONLY)}
    for number, name in ((1, "out"), (2, "err")):
        streams[number] = (request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, (path, flags) in streams.items():
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    sys.argv = ["diffgeo", *request["argv"]]
    if request["die_at"]:
        die_at(request["die_at"])
    from diffgeo.cli import main

    main()


def start(request: dict, answers: int) -> dict:
    pid = os.fork()
    if pid:
        return {"pid": pid}
    os.close(answers)
    status = 70  # the line did not end by SystemExit, as every line does
    try:
        become(request)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()  # as the end of an interpreter does; the rest of it is left out
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(status)


def wait(request: dict) -> dict:
    _, status, usage = os.wait4(request["pid"], 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "resident": usage.ru_maxrss * 1024,
    }


def system(request: dict) -> dict:
    done = subprocess.run(request["argv"], capture_output=True, text=True)
    return {"status": done.returncode, "text": done.stdout + done.stderr}


def main() -> None:
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    prepare()
    os.write(answers, b"{}\n")
    for line in requests:
        request = json.loads(line)
        if request["do"] == "start":
            answer = start(request, answers)
        elif request["do"] == "wait":
            answer = wait(request)
        else:
            answer = system(request)
        os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
